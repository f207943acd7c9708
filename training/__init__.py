"""The recipe of the embedded model: scenes that we draw, and stages that train a latent diffusion model."""
