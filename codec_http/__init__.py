"""HTTP server, built on aiohttp, that sends latent streams and rendered images."""
