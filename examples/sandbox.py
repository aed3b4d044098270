"""
Uses the guest of a running vproxy as a sandbox: files, commands, a terminal, a port, egress and events.

    host:   vproxy --config sandbox.toml --control /run/vproxy/NAME.sock
    guest:  vproxy -c … --allow-exec --allow-copy --announce-ports 8080
    python3 examples/sandbox.py /run/vproxy/NAME.sock /tmp/work 8080
"""

import sys
import time
import urllib.request

from vproxy import Vproxy

path, folder, port = sys.argv[1:]
vproxy = Vproxy(path)
vm = vproxy.channel()
vm.wait("exec")

# Files.
vm.files.mkdir(f"{folder}/site", parents=True, exist_ok=True)
vm.files.write(f"{folder}/site/index.html", "a page of the sandbox\n")
for entry in vm.files.list(f"{folder}/site"):
    print(f"{entry.name}: {entry.size} bytes")
try:
    vm.files.read(f"{folder}/none")
except FileNotFoundError as error:
    print(getattr(error, "code", ""))

# A command, with its input and outputs.
done = vm.run(["sort"], input="b\na\n", text=True, timeout=10)
print(f"sort: status {done.returncode}, {done.stdout.split()}")

# A terminal.
with vm.popen(["sh", "-c", 'read line; stty size; echo "line: $line"'], tty=(100, 30)) as shell:
    shell.resize(120, 40)
    screen, _ = shell.communicate(b"typed\n")
print(screen.decode().replace("\r", ""))

# A server in the guest, whose port appears here while it runs.
words = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", f"{folder}/site", port]
server = vm.start(words, tag="site")
while not (endpoint := next((one["endpoint"] for one in vm.ports() if one["port"] == int(port)), None)):
    time.sleep(0.1)
with urllib.request.urlopen(f"http://{endpoint}/") as answer:
    print(f"GET /: {answer.read().decode()}")
vm.stop_job(server)

# What programs of the guest may reach.
before = vm.egress_test("internet", "192.0.2.1:443")["isAllowed"]
vm.egress_allow("internet", "192.0.2.1:443", seconds=60)
print(f"192.0.2.1:443: {before}, then {vm.egress_test('internet', '192.0.2.1:443')['isAllowed']}")

# What has happened.
for event in list(vproxy.events(follow=False))[-5:]:
    print(f"event {event['event']}")
vm.files.remove(f"{folder}/site", recursive=True)
