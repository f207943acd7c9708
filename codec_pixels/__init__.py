"""Conversion of latents to pixels, and of pixels to image and video files.

`vae` decodes latents with one function per class of VAE, and `vae_location` finds the VAE of a latent-space map.
`images` and `videos` encode PNG, JPEG, WebP, GIF and MP4 files, which contain the generation `parameters`. `device`
selects the torch device, and `known_models` lists aliases and latent spaces. torch, diffusers and Pillow are imported
only if they are used.
"""
