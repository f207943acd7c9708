"""HTTP server: latent streams and rendered images over aiohttp."""
