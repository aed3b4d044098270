"""
The answers of a vproxy process, as plain values. Written by ``npm run python-types`` from the schemas in lib/status/: change
them there. Durations are in milliseconds, times are ISO 8601 texts in UTC, amounts are in bytes, rates in bytes per second.
Text from a peer is as the peer sent it: escape it before showing it.
"""

from __future__ import annotations

from typing import Any, Dict, List, Literal, Optional, TypedDict, Union

ChannelState = Literal["opening", "waiting", "backing-off", "auth-failed", "established", "suspended", "draining", "failed"]

Direction = Literal["outgoing", "incoming"]

StreamWait = Literal["answer", "channel", "peer", "session", "local"]

LogLevel = Literal["error", "warn", "info", "debug"]


class ChannelStatus(TypedDict):
    """One channel."""

    #: Its name in this process.
    label: str
    #: The label of the group that created it; None if it belongs to none.
    group: Optional[str]
    #: Its address in canonical form.
    address: str
    #: The state of a channel. ``opening``: it is being opened, or is open and its peer has not answered yet. ``waiting``: for
    #: the host or the peer. ``backing-off``: the last attempt failed, and the next is scheduled. ``auth-failed``: the two sides
    #: have no key in common, or not the same protection; retries come at growing intervals. ``established``: it has a session.
    #: ``suspended``: its session waits for another link. ``draining``: it takes no new streams; open ones may finish.
    #: ``failed``: it can never work.
    state: ChannelState
    #: Since when it has been in this state; ISO 8601, UTC.
    since: str
    #: What it waits for, or why it failed; otherwise None.
    detail: Optional[str]
    #: The time until the next attempt; None unless ``backing-off``, or ``suspended``.
    nextTryMs: Optional[int]
    #: Null while it has no session.
    session: Optional[SessionStatus]
    #: The socket buffer granted by the system; None until a write has filled the default one, and for other sockets than unix.
    bufferBytes: Optional[int]
    #: The sessions of a channel.
    history: SessionHistory
    #: The traffic of a channel since it was added.
    totals: ChannelTotals


class SessionStatus(TypedDict):
    """The current session."""

    #: The peer.
    peer: SessionStatusPeer
    #: The version of the protocol that both sides speak.
    protocolVersion: int
    #: How stream data is checked: for lost, repeated or truncated data, or also for changed data.
    integrity: Literal["frame", "full"]
    #: The id of the key with which the two sides authenticated each other; None without a key.
    key: Optional[str]
    #: How the channel is encrypted: with a key, or with certificates on both sides; None: not by vproxy.
    tls: Optional[Literal["psk", "cert"]]
    #: Whether each side lets the session outlive its link; both must.
    resume: SessionStatusResume
    #: The age of the session.
    ageMs: int
    #: The round trip through the peer; None before the first measurement.
    roundTripMs: Optional[float]
    #: How long nothing has come although an answer is overdue; None if none is.
    silentMs: Optional[int]
    #: How far the peer's clock was ahead when it last announced its services; None if it sent no time.
    clockOffsetMs: Optional[int]
    #: The number of open streams.
    streams: int
    #: What may be sent before the peer grants more credit, all streams together.
    sendCreditBytes: int
    #: Data queued on the channel and not yet written.
    unwrittenBytes: int


class SessionHistory(TypedDict):
    """The sessions of a channel."""

    #: The number of sessions established, including the current one.
    sessions: int
    #: The number that ended with each code of docs/errors.md; ``other`` for codes that are not in it.
    ends: Dict[str, int]
    #: The last ended sessions, newest first; at most 16.
    recent: List[SessionHistoryRecent]


class ChannelTotals(TypedDict):
    """The traffic of a channel since it was added."""

    #: Stream payload sent.
    sentBytes: int
    #: Stream payload received.
    receivedBytes: int
    #: Frames sent, of all types.
    sentFrames: int
    #: Frames received, of all types.
    receivedFrames: int
    #: Bytes that belonged to no session.
    skippedBytes: int
    #: Total time without progress while data was waiting, counting stalls of a second or more.
    stallMs: int
    #: Streams opened by either side.
    streamsOpened: int
    #: Streams that did not end cleanly, including refused ones.
    streamsFailed: int
    #: How often a session resumed on another link.
    resumptions: int
    #: Bytes resent on resumption, of all types of frames.
    resentBytes: int


class ChannelChanges(TypedDict):
    """The changes made by a reload."""

    #: Labels of new channels.
    addedChannels: List[str]
    #: Labels of removed channels.
    removedChannels: List[str]
    #: Labels of channels that were restarted because their address or settings changed.
    replacedChannels: List[str]
    #: New forwards, each as LABEL and its text.
    addedForwards: List[str]
    #: Forwards that were removed, or will be when their streams have ended, each as LABEL and its text.
    removedForwards: List[str]
    #: Services whose rule or permission changed, each as LABEL and its name.
    changedPolicies: List[str]
    #: Egresses whose rules changed, each as LABEL and its name.
    changedEgress: List[str]
    #: What else changed without a restart, each as LABEL and keys, announce-ports or forward-ports.
    changedSettings: List[str]


class ReloadAnswer(TypedDict):
    """The changes made by a reload, and those that need a restart."""

    #: Labels of new channels.
    addedChannels: List[str]
    #: Labels of removed channels.
    removedChannels: List[str]
    #: Labels of channels that were restarted because their address or settings changed.
    replacedChannels: List[str]
    #: New forwards, each as LABEL and its text.
    addedForwards: List[str]
    #: Forwards that were removed, or will be when their streams have ended, each as LABEL and its text.
    removedForwards: List[str]
    #: Services whose rule or permission changed, each as LABEL and its name.
    changedPolicies: List[str]
    #: Egresses whose rules changed, each as LABEL and its name.
    changedEgress: List[str]
    #: What else changed without a restart, each as LABEL and keys, announce-ports or forward-ports.
    changedSettings: List[str]
    #: Keys of the file whose changes take effect at the next start.
    nextStart: List[str]


class DatagramCounts(TypedDict):
    """The messages of datagram flows."""

    #: Messages sent to the peer.
    sent: int
    #: Messages to the peer dropped on this side.
    sendDropped: int
    #: Messages received from the peer and passed on.
    received: int
    #: Messages from the peer dropped on this side.
    receiveDropped: int


class ForwardStatus(TypedDict):
    """One forward."""

    #: ``f1``, ``f2``, …: unique in the process.
    id: str
    #: The label of its channel.
    channel: str
    #: ``outgoing``: opened or listened for on this side; ``incoming``: opened by the peer, served on this side.
    direction: Direction
    #: The service that it leads to, or serves; ``*`` if the connecting program names it.
    service: str
    #: The endpoint in use, with the chosen port if 0 was requested.
    endpoint: str
    #: Its text, as for ``-o`` and ``-i``.
    spec: str
    #: ``draining``: it takes no new streams, and is removed when its streams have ended.
    state: Literal["active", "draining"]
    #: Whether the peer offers the service; None without a session, for ``incoming``, and if the connecting program names it.
    offered: Optional[bool]
    #: The number of open streams.
    streams: int
    #: The total number of streams.
    opened: int
    #: The messages of all its flows, including ended ones; None if it carries no datagrams.
    datagrams: Optional[DatagramCounts]


class ServiceStatus(TypedDict):
    """A service offered to the peer of a channel, or by it."""

    #: The label of the channel.
    channel: str
    #: Its name.
    service: str
    #: Which side serves it.
    offeredBy: Literal["here", "peer"]
    #: The incoming forward that serves it; None for the peer's services, and for those of a program or the broker.
    forward: Optional[str]


class EgressQuestion(TypedDict):
    """A destination that no entry names, and that waits for an answer."""

    #: 8 hexadecimal digits.
    id: str
    #: The label of the channel.
    channel: str
    #: The name of the egress.
    egress: str
    #: ``HOST:PORT``, as parsed.
    destination: str
    #: Why it is not allowed, in human-readable form.
    why: str
    #: When it was first asked for, in ISO 8601 and UTC.
    askedAt: str
    #: When it is refused without an answer.
    until: str
    #: How many connections wait for it.
    connections: int


class EgressStats(TypedDict):
    """What an egress did for a destination in the last hour."""

    #: The label of the channel.
    channel: str
    #: The name of the egress.
    egress: str
    #: ``HOST:PORT``; None: those beyond the first 1,000 of the channel.
    destination: Optional[str]
    #: Connections that were opened.
    opened: int
    #: Connections that the rules refused.
    refused: int
    #: Questions to operators.
    asked: int
    #: Sent there by connections that have ended.
    uploadedBytes: int
    #: Received from there, likewise.
    downloadedBytes: int


class EgressStatus(TypedDict):
    """An egress of a channel."""

    #: The label of the channel.
    channel: str
    #: Its name.
    name: str
    #: The services whose forwards lead to it.
    services: List[str]
    #: The rules in effect on the channel; None if the egress is not defined, so that everything is refused.
    rules: Optional[EgressStatusRules]
    #: Whether everything is denied, by ``POST /v1/egress/block``.
    isBlocked: bool
    #: The entries of ``rules.allow`` that ``POST /v1/egress/allow`` and answers have added.
    added: List[EgressStatusAdded]
    #: The entries of ``rules.deny`` that answers have added.
    denied: List[EgressStatusDenied]


class EgressTest(TypedDict):
    """The verdict on a destination."""

    #: The label of the channel.
    channel: str
    #: The name of the egress.
    name: str
    #: ``HOST:PORT``, as parsed.
    destination: str
    #: Whether it is allowed.
    isAllowed: bool
    #: The deciding entry with its list, such as ``allow "*.example.org:443"``; None for none.
    rule: Optional[str]
    #: Why, in human-readable form.
    why: str
    #: Whether a connection would wait for an answer.
    isAsked: bool
    #: The current addresses of its name; empty if it is not resolved here.
    addresses: List[EgressTestAddresses]


class PortStatus(TypedDict):
    """A listening port that a side announces."""

    #: The label of the channel.
    channel: str
    #: Its number on the machine of the side that announces it.
    port: int
    #: The program that listens there, as that side reports; None if unknown.
    program: Optional[str]
    #: Which side announces it.
    announcedBy: Literal["here", "peer"]
    #: ``here``: what its streams connect to. ``peer``: where this side listens for it, or None.
    endpoint: Optional[str]
    #: The id of its forward, or None.
    forward: Optional[str]
    #: The number of open streams.
    streams: int


class PortWithUrl(TypedDict):
    """A listening port that a side announces, with its URL."""

    #: The label of the channel.
    channel: str
    #: Its number on the machine of the side that announces it.
    port: int
    #: The program that listens there, as that side reports; None if unknown.
    program: Optional[str]
    #: Which side announces it.
    announcedBy: Literal["here", "peer"]
    #: ``here``: what its streams connect to. ``peer``: where this side listens for it, or None.
    endpoint: Optional[str]
    #: The id of its forward, or None.
    forward: Optional[str]
    #: The number of open streams.
    streams: int
    #: Where a browser on this machine finds a port of the peer, by ``http-ports``; or None.
    url: Optional[str]


_StreamStatusWords = TypedDict("_StreamStatusWords", {"from": Optional[str]})

class StreamStatus(_StreamStatusWords):
    """One stream."""

    #: The label of its channel.
    channel: str
    #: Its number in the session; 0 while its opening is held back.
    id: int
    #: The service that it leads to.
    service: str
    #: ``outgoing``: opened or listened for on this side; ``incoming``: opened by the peer, served on this side.
    direction: Direction
    #: The id of its forward, or None.
    forward: Optional[str]
    #: The age of the stream.
    ageMs: int
    #: Payload sent to the peer.
    sentBytes: int
    #: Payload received from the peer.
    receivedBytes: int
    #: What may be sent before the peer grants more credit.
    sendCreditBytes: int
    #: What the peer may send before it gets more credit.
    receiveCreditBytes: int
    #: What it waits for; None if nothing waits.
    waitsFor: Optional[StreamWait]
    #: What an egress connected it to last; None if nothing.
    reached: Optional[StreamStatusReached]
    #: The messages of a datagram flow; None for any other stream.
    datagrams: Optional[DatagramCounts]


_StreamWithRatesWords = TypedDict("_StreamWithRatesWords", {"from": Optional[str]})

class StreamWithRates(_StreamWithRatesWords):
    """One stream, with its rates."""

    #: The label of its channel.
    channel: str
    #: Its number in the session; 0 while its opening is held back.
    id: int
    #: The service that it leads to.
    service: str
    #: ``outgoing``: opened or listened for on this side; ``incoming``: opened by the peer, served on this side.
    direction: Direction
    #: The id of its forward, or None.
    forward: Optional[str]
    #: The age of the stream.
    ageMs: int
    #: Payload sent to the peer.
    sentBytes: int
    #: Payload received from the peer.
    receivedBytes: int
    #: What may be sent before the peer grants more credit.
    sendCreditBytes: int
    #: What the peer may send before it gets more credit.
    receiveCreditBytes: int
    #: What it waits for; None if nothing waits.
    waitsFor: Optional[StreamWait]
    #: What an egress connected it to last; None if nothing.
    reached: Optional[StreamStatusReached]
    #: The messages of a datagram flow; None for any other stream.
    datagrams: Optional[DatagramCounts]
    #: Bytes per second over the last 0.2 to 3 s, or since it was opened.
    sendRate: int
    #: As ``sendRate``.
    receiveRate: int


class StreamEnd(TypedDict):
    """How a stream opened by a connection has ended."""

    #: ``open``: at least one direction is open; ``ended``: both have ended cleanly; ``reset``: it failed.
    state: Literal["open", "ended", "reset"]
    #: Why it was reset; otherwise None.
    error: Optional[StreamEndError]


class LoopDelay(TypedDict):
    """The delay of timers, in milliseconds."""

    #: The average.
    meanMs: float
    #: The 99th percentile.
    p99Ms: float
    #: The maximum.
    maxMs: float


class ProcessStatus(TypedDict):
    """The process as a whole; amounts in bytes, times in milliseconds."""

    #: The name set by its operator, or None.
    name: Optional[str]
    #: Its process id.
    pid: int
    #: Program and version, such as ``vproxy 0.1.0``.
    version: str
    #: The version of Node.js.
    node: str
    #: When it was started; ISO 8601, UTC.
    startedAt: str
    #: The time since then.
    uptimeMs: int
    #: Its memory use.
    memory: ProcessStatusMemory
    #: Since the last request for it; None on the first request within a minute, which starts the measurement.
    eventLoopDelay: Optional[LoopDelay]
    #: The least important level that it logs.
    logLevel: LogLevel
    #: What it did to its machine.
    machine: MachineHistory


class ControlStatus(TypedDict):
    """The process and its channels."""

    #: The process as a whole; amounts in bytes, times in milliseconds.
    process: ProcessStatus
    #: Every channel.
    channels: List[ChannelStatus]
    #: The number of forwards, on all channels together.
    forwards: int
    #: The number of open streams, on all channels together.
    streams: int


class ControlEvent(TypedDict):
    """One event."""

    #: 1 for the first event of the process, then consecutive.
    seq: int
    #: When it happened; ISO 8601, UTC.
    time: str
    #: How much it matters.
    level: LogLevel
    #: What happened, as a stable name.
    event: str
    #: One human-readable line. Foreign text in it is escaped.
    message: str
    #: The same facts, machine-readable; ``channel`` is the label of the channel.
    fields: Dict[str, Union[str, float, bool, None, List[str]]]


class PingAnswer(TypedDict):
    """The answer of ``POST /v1/ping``."""

    #: The label of the channel.
    channel: str
    #: The round trip to the peer, in milliseconds.
    roundTripMs: float


class BootState(TypedDict):
    """The boot progress of a machine."""

    #: The state of systemd, as printed by ``systemctl is-system-running``; None with another init.
    systemd: Optional[Literal["initializing", "starting", "running", "degraded", "maintenance", "stopping", "offline", "unknown"]]
    #: Why systemd could not be queried, if ``unknown``; otherwise None.
    systemdError: Optional[str]
    #: The failed units, if systemd is ``degraded``; at most 32.
    failedUnits: List[str]
    #: The state of cloud-init; ``degraded``: done, with recovered errors; None without cloud-init.
    cloudInit: Optional[Literal["not-started", "running", "done", "degraded", "error", "disabled"]]
    #: The first error of cloud-init, or None.
    cloudInitError: Optional[str]


class Disk(TypedDict):
    """A mounted local file system of a machine."""

    #: The mount point.
    mountPoint: str
    #: The mounted device: ``/dev/vda1``.
    device: str
    #: The type of its file system: ``ext4``.
    type: str
    #: Its size; None if the system did not answer in time.
    sizeBytes: Optional[int]
    #: Free space, including what is reserved for root; or None.
    freeBytes: Optional[int]
    #: Free space for users other than root; or None.
    availableBytes: Optional[int]


class NetworkInterface(TypedDict):
    """A network interface with an address."""

    #: Its name: ``eth0``.
    name: str
    #: Its hardware address, or None.
    mac: Optional[str]
    #: Its addresses, each with its prefix length: ``192.0.2.7/24``; at most 32.
    addresses: List[str]


class _MachineHistory(TypedDict):
    """What a process of vproxy did to its machine."""

    #: When it last found its machine restored from a snapshot; ISO 8601, UTC; None if never.
    restoredAt: Optional[str]
    #: When it last set the clock; ISO 8601, UTC; None if never.
    clockSteppedAt: Optional[str]
    #: By how much, in milliseconds; or None.
    clockSteppedByMs: Optional[float]
    #: When it last froze file systems; ISO 8601, UTC; None if never.
    frozenAt: Optional[str]


class MachineHistory(_MachineHistory, total=False):
    """What a process of vproxy did to its machine."""

    #: If its service was refused its options: ``last``, the last that worked are in effect, or ``none``; or None.
    refusedOptions: Optional[Literal["last", "none"]]


class _Machine(TypedDict):
    """Facts about a machine."""

    #: Its host name.
    hostName: str
    #: From /etc/os-release; None if it is missing.
    os: Optional[MachineOs]
    #: Its kernel.
    kernel: MachineKernel
    #: The id of this boot, which changes with each; None if unknown.
    bootId: Optional[str]
    #: The time since boot, in seconds.
    uptimeS: float
    #: The number of processors that programs can use.
    processors: int
    #: The load averages of the last 1, 5 and 15 minutes.
    load: List[float]
    #: Its memory.
    memory: MachineMemory
    #: Its file systems; at most 64.
    disks: List[Disk]
    #: Its network interfaces with an address; at most 64.
    interfaces: List[NetworkInterface]
    #: Its boot progress.
    boot: BootState


class Machine(_Machine, total=False):
    """Facts about a machine."""

    #: What the vproxy that answers did to it; absent in older versions.
    history: MachineHistory


class _MachineInfo(TypedDict):
    """Facts about the peer's machine, with a measurement of its clock."""

    #: Its host name.
    hostName: str
    #: From /etc/os-release; None if it is missing.
    os: Optional[MachineOs]
    #: Its kernel.
    kernel: MachineKernel
    #: The id of this boot, which changes with each; None if unknown.
    bootId: Optional[str]
    #: The time since boot, in seconds.
    uptimeS: float
    #: The number of processors that programs can use.
    processors: int
    #: The load averages of the last 1, 5 and 15 minutes.
    load: List[float]
    #: Its memory.
    memory: MachineMemory
    #: Its file systems; at most 64.
    disks: List[Disk]
    #: Its network interfaces with an address; at most 64.
    interfaces: List[NetworkInterface]
    #: Its boot progress.
    boot: BootState
    #: The label of the channel.
    channel: str
    #: Its clock, compared with the clock of this side.
    clock: MachineInfoClock


class MachineInfo(_MachineInfo, total=False):
    """Facts about the peer's machine, with a measurement of its clock."""

    #: What the vproxy that answers did to it; absent in older versions.
    history: MachineHistory


class BootStatus(TypedDict):
    """The boot progress of the peer's machine, with a verdict."""

    #: The state of systemd, as printed by ``systemctl is-system-running``; None with another init.
    systemd: Optional[Literal["initializing", "starting", "running", "degraded", "maintenance", "stopping", "offline", "unknown"]]
    #: Why systemd could not be queried, if ``unknown``; otherwise None.
    systemdError: Optional[str]
    #: The failed units, if systemd is ``degraded``; at most 32.
    failedUnits: List[str]
    #: The state of cloud-init; ``degraded``: done, with recovered errors; None without cloud-init.
    cloudInit: Optional[Literal["not-started", "running", "done", "degraded", "error", "disabled"]]
    #: The first error of cloud-init, or None.
    cloudInitError: Optional[str]
    #: The label of the channel.
    channel: str
    #: ``booted``: everything is done; ``failed``: done, but something failed.
    verdict: Literal["booting", "booted", "failed"]
    #: What it waits for, or what failed, as human-readable lines with foreign text escaped.
    remarks: List[str]


class FrozenAnswer(TypedDict):
    """The answer of ``POST /v1/freeze``."""

    #: The label of the channel.
    channel: str
    #: The frozen mount points, in the order in which they were frozen.
    paths: List[str]
    #: The time after which the machine thaws by itself, in seconds.
    forS: float


class ThawedAnswer(TypedDict):
    """The answer of ``POST /v1/thaw``."""

    #: The label of the channel.
    channel: str
    #: How long the file systems were frozen, in milliseconds.
    heldMs: float
    #: ``asked``: now; ``time``: before, by itself, since its time was over.
    cause: Literal["asked", "time"]


class ExecResult(TypedDict):
    """How a command ended: by itself, by a signal, or before it began."""

    #: Its exit status; None if it did not exit by itself.
    status: Optional[int]
    #: The signal that ended it, ``SIGKILL``, or ``SIG35`` for one without a name; else None.
    signal: Optional[str]
    #: Whether it timed out.
    timedOut: bool
    #: From the start to the end, in milliseconds.
    durationMs: float
    #: What it used, with the processes that it waited for; None if the peer does not tell.
    usage: Optional[ExecResultUsage]
    #: Why it was not run: ``command-not-found``, ``command-denied`` or ``command-failed``; else None.
    error: Optional[ExecResultError]


class CommandAnswer(TypedDict):
    """The result of a command and its outputs."""

    #: Its exit status; None if it did not exit by itself.
    status: Optional[int]
    #: The signal that ended it, ``SIGKILL``, or ``SIG35`` for one without a name; else None.
    signal: Optional[str]
    #: Whether it timed out.
    timedOut: bool
    #: From the start to the end, in milliseconds.
    durationMs: float
    #: What it used, with the processes that it waited for; None if the peer does not tell.
    usage: Optional[ExecResultUsage]
    #: Why it was not run: ``command-not-found``, ``command-denied`` or ``command-failed``; else None.
    error: Optional[ExecResultError]
    #: The label of the channel.
    channel: str
    #: Its process id there; None if it was not run.
    pid: Optional[int]
    #: Its standard output, in the ``encoding`` of the request.
    stdout: str
    #: Its standard error, likewise.
    stderr: str
    #: Whether ``stdout`` is incomplete.
    stdoutTruncated: bool
    #: Whether ``stderr`` is incomplete.
    stderrTruncated: bool


class _CommandLine(TypedDict):
    """A line about a running command: one of these fields."""

    pass


class CommandLine(_CommandLine, total=False):
    """A line about a running command: one of these fields."""

    #: Standard output, in the ``encoding`` of the request.
    stdout: str
    #: Standard error, likewise.
    stderr: str
    #: The last line: how it ended.
    end: CommandLineEnd
    #: The last line, if its end is not known: why.
    error: ExecResultError


class JobStatus(TypedDict):
    """A command that outlives its caller, as the runner lists it."""

    #: 8 hexadecimal digits, unique in the channel.
    id: str
    #: The name that it was given.
    tag: Optional[str]
    #: The first 8 words; long ones are shortened.
    argv: List[str]
    #: The user that it runs as.
    user: Optional[str]
    #: Its process id there.
    pid: int
    #: ISO 8601, by the clock of the peer.
    startedAt: str
    #: Null while it runs.
    endedAt: Optional[str]
    #: Its exit status; None while it runs, and if it did not exit.
    status: Optional[int]
    #: The signal that ended it; otherwise None.
    signal: Optional[str]
    #: Whether its timeout ended it.
    timedOut: bool
    #: Bytes of output written so far.
    bytes: int
    #: The number of the first byte that is kept.
    keptFrom: int
    #: Whether it has a terminal.
    terminal: bool
    #: Whether it runs, and has an input that has not ended.
    takesInput: bool
    #: Whether a caller writes to its input.
    hasWriter: bool
    #: What its processes have used; None if the peer does not tell.
    usage: Optional[ExecResultUsage]


class JobOfChannel(TypedDict):
    """A job, with its channel."""

    #: 8 hexadecimal digits, unique in the channel.
    id: str
    #: The name that it was given.
    tag: Optional[str]
    #: The first 8 words; long ones are shortened.
    argv: List[str]
    #: The user that it runs as.
    user: Optional[str]
    #: Its process id there.
    pid: int
    #: ISO 8601, by the clock of the peer.
    startedAt: str
    #: Null while it runs.
    endedAt: Optional[str]
    #: Its exit status; None while it runs, and if it did not exit.
    status: Optional[int]
    #: The signal that ended it; otherwise None.
    signal: Optional[str]
    #: Whether its timeout ended it.
    timedOut: bool
    #: Bytes of output written so far.
    bytes: int
    #: The number of the first byte that is kept.
    keptFrom: int
    #: Whether it has a terminal.
    terminal: bool
    #: Whether it runs, and has an input that has not ended.
    takesInput: bool
    #: Whether a caller writes to its input.
    hasWriter: bool
    #: What its processes have used; None if the peer does not tell.
    usage: Optional[ExecResultUsage]
    #: The label of its channel.
    channel: str


class _JobLine(TypedDict):
    """A line about the output of a job: ``at``, ``next`` and another field, or the last line."""

    pass


class JobLine(_JobLine, total=False):
    """A line about the output of a job: ``at``, ``next`` and another field, or the last line."""

    #: The number of the first byte.
    at: int
    #: The number of the byte after the last one: continue there.
    next: int
    #: What the job wrote, to either of its outputs, in the ``encoding`` of the request.
    output: str
    #: How many bytes from there on are no longer kept.
    droppedBytes: int
    #: The last line: how it ended.
    end: ExecResult
    #: The last line, if its end is not known: why.
    error: ExecResultError


class UpgradeAnswer(TypedDict):
    """The answer of ``POST /v1/upgrade``."""

    #: The process id of the successor.
    pid: int
    #: Its program and version.
    version: str
    #: Number of sessions handed over.
    sessions: int
    #: Number of streams handed over.
    streams: int
    #: Number of listening sockets handed over.
    listeners: int
    #: With ``force``: streams that were reset because they could not be handed over.
    cut: List[str]
    #: How long the process was paused, in milliseconds.
    durationMs: float


class ErrorBody(TypedDict):
    """The body of every error response."""

    #: The error.
    error: ErrorBodyError


class SessionStatusPeer(TypedDict):
    """The peer."""

    #: Program and version, as sent by the peer.
    agent: str
    #: The name set by its operator, or None.
    name: Optional[str]
    #: The services that it offers.
    services: List[str]


class SessionStatusResume(TypedDict):
    """Whether each side lets the session outlive its link; both must."""

    #: Whether this side does.
    here: bool
    #: Whether the peer does.
    peer: bool


class SessionHistoryRecent(TypedDict):
    """An entry."""

    #: When it ended; ISO 8601, UTC.
    at: str
    #: How long it had lasted.
    ageMs: int
    #: Why it ended: a code of docs/errors.md, or one sent by the peer.
    code: str
    #: Why it ended, in one line.
    message: str


class EgressStatusRules(TypedDict):
    """An entry."""

    #: The entries of allowed destinations.
    allow: List[str]
    #: The entries of denied destinations.
    deny: List[str]
    #: The HTTP proxy for all connections, or None.
    upstream: Optional[str]
    #: How long a destination that no entry names waits for an answer, in seconds; None: not at all.
    askS: Optional[float]


class EgressStatusAdded(TypedDict):
    """An entry."""

    #: The entry.
    entry: str
    #: When it is removed, in ISO 8601 and UTC; None: not by itself.
    until: Optional[str]


class EgressStatusDenied(TypedDict):
    """An entry."""

    #: The entry.
    entry: str
    #: When it is removed, in ISO 8601 and UTC; None: not by itself.
    until: Optional[str]


class EgressTestAddresses(TypedDict):
    """An entry."""

    #: An address of the destination.
    address: str
    #: Whether it is allowed.
    isAllowed: bool
    #: The deciding entry with its list, such as ``allow "*.example.org:443"``; None for none.
    rule: Optional[str]
    #: Why, in human-readable form.
    why: str


class StreamStatusReached(TypedDict):
    """An entry."""

    #: ``HOST:PORT``, as requested.
    destination: str
    #: ``ADDRESS:PORT`` that was connected to.
    address: str
    #: The entry that allowed it.
    rule: str


class StreamEndError(TypedDict):
    """An entry."""

    #: A code of docs/errors.md, or a newer one that the peer sent; about a file, its name in the system there: ``ENOENT``.
    code: str
    #: One human-readable line.
    message: str


class ProcessStatusMemory(TypedDict):
    """Its memory use."""

    #: Resident in the machine's memory.
    residentBytes: int
    #: JavaScript heap.
    heapBytes: int
    #: Memory outside the heap, such as buffers.
    externalBytes: int


class MachineOs(TypedDict):
    """An entry."""

    #: ``ID`` of os-release: ``debian``; or None.
    id: Optional[str]
    #: ``VERSION_ID``: ``13``; or None.
    versionId: Optional[str]
    #: ``PRETTY_NAME``: ``Debian GNU/Linux 13 (trixie)``; or None.
    name: Optional[str]


class MachineKernel(TypedDict):
    """Its kernel."""

    #: ``Linux``.
    name: str
    #: Its release, as printed by ``uname -r``.
    release: str
    #: ``x86_64``, as printed by ``uname -m``.
    architecture: str


class MachineMemory(TypedDict):
    """Its memory."""

    #: Total memory.
    totalBytes: int
    #: Memory available without swapping.
    availableBytes: int
    #: Total swap space.
    swapTotalBytes: int
    #: Free swap space.
    swapFreeBytes: int


class MachineInfoClock(TypedDict):
    """Its clock, compared with the clock of this side."""

    #: How far its time of day is ahead of this side's, in milliseconds.
    offsetMs: float
    #: The maximum error of the offset, either way, in milliseconds.
    uncertaintyMs: float
    #: The round trip of the measurement, in milliseconds.
    roundTripMs: float


class ExecResultUsage(TypedDict):
    """An entry."""

    #: Time of processors, in milliseconds.
    cpuMs: float
    #: The most memory that one of its processes had resident, in bytes; None if vproxy there had more.
    peakBytes: Optional[int]


class ExecResultError(TypedDict):
    """An entry."""

    #: A code of docs/errors.md.
    code: str
    #: One line.
    message: str


class CommandLineEnd(TypedDict):
    """An entry."""

    #: Its exit status; None if it did not exit by itself.
    status: Optional[int]
    #: The signal that ended it, ``SIGKILL``, or ``SIG35`` for one without a name; else None.
    signal: Optional[str]
    #: Whether it timed out.
    timedOut: bool
    #: From the start to the end, in milliseconds.
    durationMs: float
    #: What it used, with the processes that it waited for; None if the peer does not tell.
    usage: Optional[ExecResultUsage]
    #: Why it was not run: ``command-not-found``, ``command-denied`` or ``command-failed``; else None.
    error: Optional[ExecResultError]
    #: Its process id there; None if it was not run.
    pid: Optional[int]


class _ErrorBodyError(TypedDict):
    """The error."""

    #: A code of docs/errors.md, or a newer one that the peer sent.
    code: str
    #: One human-readable line.
    message: str


class ErrorBodyError(_ErrorBodyError, total=False):
    """The error."""

    #: The path of the invalid field in the body or the query.
    field: str


Job = JobStatus
