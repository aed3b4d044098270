/** Two descriptors, one to read and one to write, as the halves of a link. */
import net from 'node:net';
import type { OnRead } from '../util/buffered-socket.js';
import type { SocketHalves } from './socket-link.js';

/**
 * The halves over FIFOs, pipes or sockets (nothing else: epoll aborts the process on a regular file). They own both
 * descriptors, which become non-blocking.
 */
export function openHalves(inputFd: number, outputFd: number, onread: OnRead): SocketHalves {
  const input: net.SocketConstructorOpts & { onread: OnRead } = {
    fd: inputFd,
    onread,
    readable: true,
    writable: false,
    allowHalfOpen: true,
  };
  return {
    input: new net.Socket(input),
    output: new net.Socket({ fd: outputFd, readable: false, writable: true, allowHalfOpen: true }),
  };
}
