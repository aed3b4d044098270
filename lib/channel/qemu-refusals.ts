/** Character devices of QEMU whose other end cannot be a channel, and why. */
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import type { QemuOptions } from './qemu-options.js';

const FLAG_REASONS: Readonly<Record<string, string>> = {
  telnet: 'telnet puts bytes of its own between those of the guest',
  tn3270: 'tn3270 puts bytes of its own between those of the guest',
  websocket: 'vproxy speaks no WebSocket',
  abstract: 'vproxy opens no abstract sockets, which have no permissions; give QEMU a path',
  mux: 'QEMU takes Ctrl-A, and what follows it, out of the bytes of such a device',
};

const VALUE_REASONS: Readonly<Record<string, string>> = {
  'tls-creds': "vproxy does not speak QEMU's TLS; its own is inside the channel (tls=psk, tls=cert)",
  fd: 'only the process that QEMU has it from knows what is at its other end',
  to: 'which port of the range QEMU has taken does not show; give it one port',
};

/** Throws `bad-argument` where an option of QEMU keeps the device from being a channel. */
export function refuseOptions(qemu: QemuOptions): void {
  for (const [name, reason] of Object.entries(FLAG_REASONS)) {
    if (qemu.flag(name) === true) throw bad(`has ${name}=on: ${reason}`);
  }
  for (const [name, reason] of Object.entries(VALUE_REASONS)) {
    if (qemu.has(name)) throw bad(`has ${name}=: ${reason}`);
  }
  if (qemu.has('id') && !/^[A-Za-z][A-Za-z0-9._-]*$/.test(qemu.text('id'))) {
    throw bad(
      `has id=${escapeText(qemu.text('id'), 80)}, which is no id of QEMU; one chardev belongs here, nothing else`,
    );
  }
}

const BACKEND_REASONS: Readonly<Record<string, string>> = {
  udp: 'datagrams get lost, and are no stream of bytes',
  telnet: 'telnet puts bytes of its own between those of the guest',
  tn3270: 'tn3270 puts bytes of its own between those of the guest',
  websocket: 'vproxy speaks no WebSocket',
  vc: 'it is a screen of QEMU',
  console: 'it is a screen of QEMU',
  stdio: "it is QEMU's own standard input and output; give it a socket, or let exec: run QEMU",
  file: 'what the guest sends ends there, and nothing comes back',
  null: 'nothing is at its other end',
  ringbuf: 'its other end is in QEMU itself',
  memory: 'its other end is in QEMU itself',
  serial: 'QEMU opens that line itself; what is at its other end does not show',
  tty: 'QEMU opens that line itself; what is at its other end does not show',
  parallel: 'QEMU opens that device itself',
  parport: 'QEMU opens that device itself',
  mon: 'QEMU takes Ctrl-A, and what follows it, out of the bytes of such a device',
  chardev: 'it names a device that is spelled elsewhere: paste that one',
};

/** Why a kind of device cannot be a channel. */
export function refuseBackend(backend: string): VproxyError {
  const known = Object.hasOwn(BACKEND_REASONS, backend) ? BACKEND_REASONS[backend] : undefined;
  const taken = 'vproxy takes unix:, tcp:, pipe: and pty:, and the chardevs socket, pipe and pty';
  if (known !== undefined) return bad(`a ${backend} of QEMU cannot be a channel: ${known}`);
  return bad(`"${escapeText(backend, 80)}" is no chardev of QEMU that can be a channel; ${taken}`);
}

function bad(what: string): VproxyError {
  return new VproxyError('bad-argument', what);
}
