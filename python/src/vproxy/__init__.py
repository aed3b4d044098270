"""
vproxy from Python: commands, files, copies and connections over the channels of a vproxy process of this machine.

    from vproxy import Vproxy
    vm = Vproxy().channel("vm1")
    done = vm.run(["uname", "-r"], text=True, check=True)

``vproxy.aio`` has the same for asyncio, ``vproxy.types`` the types of answers, ``vproxy.storage`` answers the storage calls
that guests make.
"""

from ._errors import CommandNotFound, FileError, Lost, OutputLimitExceeded, Refused, TimedOut, VproxyError
from ._files import Entry
from ._places import control_folder, control_sockets
from ._sync import Channel, Files, Frozen, JobOutput, Popen, Question, Vproxy

__all__ = ["Channel", "CommandNotFound", "Entry", "FileError", "Files", "Frozen", "JobOutput", "Lost", "OutputLimitExceeded"]
__all__ += ["Popen", "Question", "Refused", "TimedOut", "Vproxy", "VproxyError", "control_folder", "control_sockets"]
