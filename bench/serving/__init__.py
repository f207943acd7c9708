"""Cost of serving, compared with servers that do less: bare aiohttp, bare grpc.aio, and FastAPI with codecai.

Every server runs in a process of its own, and so does the load. Only the sampler of our server is replaced, by a
constant tensor. CPU time is that of the server's process, with all its threads, as the kernel counts it.
"""
