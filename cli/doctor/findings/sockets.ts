/** Findings about sockets to connect to: unix sockets and TCP addresses. */
import { type FindingRows, fail, ok, warn } from './row.js';

/** By id. */
export const SOCKET_FINDINGS = {
  'socket-missing': fail(
    'There is no file at the path of a unix socket.',
    'start the VM or the program that makes the socket, or correct the path',
  ),
  'socket-not': fail('What is at the path is not a socket.', 'name the path of the socket'),
  'socket-denied': fail(
    'This user may not connect to the socket.',
    'run as the owner of the socket, or as root, or have whoever makes the socket give it to a group of this user',
  ),
  'socket-stale': fail(
    'The socket is there, and nobody listens on it: whoever made it has ended.',
    'start the VM or the program that makes the socket',
  ),
  'socket-listens': ok('Somebody listens on the socket.'),
  'socket-answered': ok('Nobody is listed as listening, so it was connected to for a moment, and somebody answered.'),
  'socket-type': fail(
    'The socket takes no connections: it is for datagrams, or of another kind.',
    'name a stream socket, such as that of a chardev',
  ),
  'socket-taken': fail(
    'Somebody else is connected, and QEMU serves one connection at a time: a second one hears nothing.',
    'end the program that is connected',
  ),
  'socket-queue': warn(
    'Connections wait to be accepted: QEMU accepts the next one when the one before has left.',
    'end the programs that wait',
  ),
  'process-stopped': warn(
    'The process at the other end stands still (stopped, or being traced).',
    'let it go on: kill -CONT',
  ),
  'group-members': ok('The folder of a group has sockets that fit.'),
  'group-empty': warn('The folder of a group has no socket that fits.', 'start a VM, or correct the pattern'),
  'tcp-answers': ok('Somebody answers at the TCP address; the connection was closed again.'),
  'tcp-refused': fail(
    'Nobody listens at the TCP address.',
    'start the program that listens there, or correct the address',
  ),
  'tcp-silent': fail('The TCP address does not answer.', 'look at firewalls, and at whether the machine is up'),
  'tcp-unreachable': fail('The system has no way to the TCP address.', 'look at the network of this machine'),
  'tcp-unknown-name': fail('The host name is not known.', 'correct the name, or write the address'),
  'tcp-taken': warn(
    'Somebody is connected to the channel’s port of this machine; a QEMU that listens serves one connection at a time.',
    'end the program that is connected',
  ),
} as const satisfies FindingRows;
