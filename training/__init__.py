"""The recipe of the embedded model: scenes that we draw, and the stages that train a latent diffusion model on them."""
