/// <reference types="node" preserve="true" />
/**
 * The public API of vproxy: the exports of `import … from 'vproxy'`.
 *
 * @module vproxy
 */

export { type ChannelAddress, parseChannel } from './channel/address/address.js';
export { type ControlClient, connectControl } from './control/client/client.js';
export type {
  AttachRequest,
  BootRequest,
  CommandRequest,
  CopyRequest,
  EventsRequest,
  FreezeRequest,
  HandOverRequest,
  JobRequest,
  JoinRequest,
  MachineRequest,
  RemovalRequest,
  StopRequest,
  StreamRequest,
  WaitRequest,
} from './control/client/client-options.js';
export type { ServiceStream } from './control/client/connect-service.js';
export type {
  BrokerRequest,
  ChannelRequest,
  EgressAnswerRequest,
  EgressEntriesRequest,
  EgressRequest,
  EgressTestRequest,
  ForwardRequest,
  RuleRequest,
} from './control/client/requests.js';
export type { ProcessControl, UpgradeRequest } from './control/context/context.js';
export { ControlServer, type ControlServerOptions } from './control/server/control-server.js';
export { ERROR_MEANINGS } from './error-meanings.js';
export { ERROR_CODES, type ErrorCode, type ErrorRow, type ErrorScope, VproxyError } from './errors.js';
export type { LogEvent, LogEventName, LogLevel } from './events.js';
export type { EgressTexts } from './forward/egress/rules.js';
export type { Direction } from './forward/forms/endpoint-form.js';
export type { Endpoint } from './forward/forms/endpoint-forms.js';
export { type ForwardSpec, formatForwardSpec, parseForwardSpec } from './forward/spec.js';
export { connectPeer, type Peer, type PeerEvents, type PeerOptions, type ServiceStreamHandler } from './peer.js';
export type {
  ChannelOptions,
  ChannelPolicies,
  ChannelPolicy,
  ForwardTemplate,
  StorageOptions,
  WrittenOptions,
} from './proxy/channel/channel-options.js';
export type { ChannelEgress } from './proxy/egress/definitions.js';
export type { PortForwarding } from './proxy/ports/port-rules.js';
export { Proxy } from './proxy/proxy.js';
export type { ProxyEvents, ProxyOptions, RemoveOptions } from './proxy/proxy-options.js';
export type { ClockFollowing } from './services/clock/permission.js';
export type { CopyCounts, CopyOptions, CopyOutcome, CopyReport } from './services/copy/copy-call.js';
export type { Comparison } from './services/copy/copy-messages.js';
export type { RunningComparison } from './services/copy/copy-progress.js';
export type { CopyPermission } from './services/copy/copy-service.js';
export type { ExecRules } from './services/exec/decide-command.js';
export { type CommandEnd, type CommandOutput, collectOutput, ExecCall, runCommand } from './services/exec/exec-call.js';
export type { Detachment, ExecRequest, TerminalRequest, TerminalSize } from './services/exec/exec-messages.js';
export type { JobEnd, JobGap, JobOutput, JobPiece, JobPlace, StartedJob } from './services/exec/jobs/job-messages.js';
export type { JoinedJob, WriterOptions } from './services/exec/jobs/job-writer.js';
export type { Permissions } from './services/permitted.js';
export {
  type CreateFolderRequest,
  type CreateRequest,
  type FileData,
  type FileEntry,
  type FilePath,
  type FileRequest,
  type FileStatus,
  Files,
  type ReadFileRequest,
  type RemoveFileRequest,
} from './services/sftp/files.js';
export { FileError } from './services/sftp/sftp-client.js';
export type { StreamWait } from './session/local-end.js';
export { MuxStream } from './session/mux-stream.js';
export type * from './status/types.js';
export type { StorageHandler } from './storage/emulator.js';
export {
  createStorageEmulator,
  type StorageEmulator,
  type StorageEmulatorEvents,
  type StorageEmulatorOptions,
} from './storage/emulator.js';
export type { StorageRequest, StorageResult } from './storage/wire.js';
export type { FileAccess, ListenAddress } from './system/sockets/listen-address.js';
export type { InheritedSocket } from './system/sockets/listening.js';
export type { HostPort, PortRange } from './util/addresses/host-port.js';
export type { CancelTimer, Clock } from './util/clock.js';
