"""Cost of serving, compared with servers that do less: bare aiohttp, bare grpc.aio, and FastAPI with codecai.

Every server runs in a separate process, and so does the load generator. Only the sampler of our server is replaced, by
a constant tensor. The CPU time is that of the server process with all its threads, as reported by the kernel.
"""
