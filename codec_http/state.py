"""What the handlers find in the application."""

from aiohttp import web

from core.service import LatentService

SERVICE = web.AppKey("service", LatentService)
REQUEST_TIMEOUT_S = web.AppKey("request_timeout_s", float)
