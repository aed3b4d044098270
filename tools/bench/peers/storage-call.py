"""A storage call made by the plainest script, to measure the wrapper beside: storage-call.py SOCKET ARGV…"""

import json
import socket
import sys

connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(json.dumps({"argv": sys.argv[2:]}).encode() + b"\n")
with connection.makefile("r", encoding="utf-8") as replies:
    reply = json.loads(replies.readline())
sys.stdout.write(reply["stdout"])
sys.stderr.write(reply["stderr"])
sys.exit(reply["status"])
