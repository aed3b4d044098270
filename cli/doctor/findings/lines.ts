/** Findings about serial lines, FIFOs and AF_VSOCK. */
import { type FindingRows, fail, note, ok, warn } from './row.js';

/** By id. */
export const LINE_FINDINGS = {
  'line-missing': fail(
    'There is no device at the path of a serial line.',
    'give the VM a serial port, or correct the path',
  ),
  'line-not': fail('What is there is no terminal line.', 'name the device of a serial line, such as /dev/ttyS1'),
  'line-denied': fail(
    'This user may not open the serial line.',
    'run as root, or join the group of the device (often dialout)',
  ),
  'line-console': fail(
    'The kernel writes its own messages to the line.',
    'use another line, or take console= of this one from the kernel’s command line',
  ),
  'line-getty': fail(
    'A getty has the line open, and would take a part of the bytes.',
    'systemctl disable --now serial-getty@ttyS1',
  ),
  'line-taken': fail('Another process has the line open, and would take a part of the bytes.', 'end that process'),
  'line-no-stty': fail('There is no stty(1), which makes a line 8-bit clean.', 'install coreutils or busybox'),
  'line-free': ok('The line is there, and nobody is seen to have it open.'),
  'fifo-missing': fail('A FIFO of the pipe chardev is missing.', 'vproxy pipe-create PATH'),
  'fifo-suffix': fail(
    'The path has .in or .out at its end, which vproxy and QEMU add by themselves.',
    'name the path without it',
  ),
  'fifo-not': fail('What is there is no FIFO.', 'remove it, and make the FIFOs with vproxy pipe-create'),
  'fifo-denied': fail(
    'This user may not read and write the FIFO.',
    'vproxy pipe-create --owner and --mode, or run as its owner',
  ),
  'fifo-alone': warn(
    'Nobody has the FIFOs open: what the guest sends is lost.',
    'start the VM with -chardev pipe and this path',
  ),
  'fifo-taken': fail(
    'Another process than QEMU has the FIFOs open, and would take a part of the bytes.',
    'end that process',
  ),
  'fifo-qemu': ok('The FIFOs are there, and QEMU has them open.'),
  'vsock-missing': fail(
    'This machine has no /dev/vsock, so the kernel has no AF_VSOCK.',
    'in a guest modprobe vmw_vsock_virtio_transport, on a host vhost_vsock; and give the VM a vhost-vsock device',
  ),
  'vsock-no-koffi': fail(
    'AF_VSOCK needs the optional package koffi, which cannot be loaded.',
    'npm install koffi, or use exec: with socat',
  ),
  'vsock-cid': ok('The CID of this machine.'),
  'vsock-own': note('The channel leads to this machine itself.', 'modprobe vsock_loopback; the host is CID 2'),
} as const satisfies FindingRows;
