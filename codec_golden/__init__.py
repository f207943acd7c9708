"""The reference role: golden latents and pixels, the perceptual gate, and vectors for other implementations."""
