"""Training recipe of the embedded model: a scene renderer and the stages that train a latent diffusion model on it."""
