"""Cost of serving, compared with servers that do less: bare aiohttp, bare grpc.aio, and FastAPI with codecai.

Every server runs in a separate process, and so does the load generator. Only the sampler of our server is replaced, by
a constant tensor. CPU time is that of the server's process, with all its threads, as the kernel counts it.
"""
