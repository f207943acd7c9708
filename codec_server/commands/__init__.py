"""The commands of `codec-diffusers`, one module each."""
