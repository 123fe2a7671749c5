"""An imitation of S3 by moto, with one bucket, `models`. Prints its port."""

import signal
import urllib.request

from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/models", method="PUT"))
print(port, flush=True)
signal.pause()
