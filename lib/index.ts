/**
 * The public API of vproxy: what `import … from 'vproxy'` gives.
 *
 * @module vproxy
 */
export { type ControlClient, connectControl } from './control/client.js';
export type {
  ChannelRequest,
  CommandRequest,
  EventsRequest,
  ForwardRequest,
  RemovalRequest,
  WaitRequest,
} from './control/client-requests.js';
export { ControlServer, type ControlServerOptions } from './control/control-server.js';
export type { LoopDelay } from './control/event-loop-delay.js';
export type { ControlEvent } from './control/event-ring.js';
export type { ProcessControl } from './control/process-control.js';
export type { ProcessStatus } from './control/process-status.js';
export type { PingAnswer } from './control/routes/process.js';
export type { ControlStatus } from './control/routes/status.js';
export type { ServiceStream } from './control/service-stream.js';
export type { StreamWithRates } from './control/stream-rates.js';
export { ERROR_CODES, type ErrorCode, type ErrorRow, type ErrorScope, VproxyError } from './errors.js';
export type { ExecRules } from './exec/allowed-programs.js';
export { type CommandOutput, collectOutput } from './exec/collect-output.js';
export { type CommandEnd, ExecCall, runCommand } from './exec/exec-call.js';
export type { ExecRequest, ExecResult, TerminalRequest, TerminalSize } from './exec/messages.js';
export type { Direction } from './forward/endpoint-kind.js';
export type { Endpoint } from './forward/endpoint-kinds.js';
export { type ForwardSpec, formatForwardSpec, parseForwardSpec } from './forward/spec.js';
export type { ChannelChanges } from './proxy/apply-channels.js';
export type { ChannelOptions, ForwardTemplate } from './proxy/channel-options.js';
export type { ChannelPolicies, ChannelPolicy } from './proxy/channel-policy.js';
export type { CopyPermission } from './proxy/copy-service.js';
export { connectPeer, type Peer, type PeerEvents, type PeerOptions, type ServiceStreamHandler } from './proxy/peer.js';
export { Proxy, type ProxyEvents, type ProxyOptions, type RemoveOptions } from './proxy/proxy.js';
export type {
  ChannelState,
  ChannelStatus,
  ChannelTotals,
  ForwardStatus,
  ServiceStatus,
  SessionHistory,
  SessionStatus,
  StreamStatus,
} from './proxy/status.js';
export type { StorageOptions } from './proxy/storage-service.js';
export { MuxStream } from './session/mux-stream.js';
export type { StreamWait } from './session/stream-wait.js';
export {
  createStorageEmulator,
  type StorageEmulator,
  type StorageEmulatorEvents,
  type StorageEmulatorOptions,
} from './storage/emulator.js';
export type { StorageHandler } from './storage/emulator-connection.js';
export type { StorageRequest, StorageResult } from './storage/wire.js';
export type { CancelTimer, Clock } from './util/clock.js';
export type { HostPort } from './util/host-port.js';
export type { ListenAddress } from './util/listen.js';
export type { InheritedSocket } from './util/listen-inherited.js';
export type { LogEvent, LogEventName, LogLevel } from './util/log-event.js';
export type { FileAccess } from './util/socket-access.js';
