"""Conversion of latents to pixels, and of pixels to image and video files.

The module `vae` decodes latents with one function per class of VAE. The module `vae_location` finds the VAE of a
latent-space map. The modules `images` and `videos` encode PNG, JPEG, WebP, GIF and MP4 files. The module `parameters`
creates the generation parameters that image and video files contain. The module `device` selects the torch device. The
module `known_models` lists the aliases and latent spaces of well-known models. The packages torch, diffusers and Pillow
are imported only when a module needs them.
"""
