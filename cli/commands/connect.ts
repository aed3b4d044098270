/** `vproxy connect`: connects standard input and output to a service. Loads as little as possible: scripts call it often. */

import { closeSync, fstatSync, openSync } from 'node:fs';
import net from 'node:net';
import type { Readable, Writable } from 'node:stream';
import type { ServiceSocket } from '../../lib/control/client/connect-service.js';
import { systemCode, VproxyError } from '../../lib/errors.js';
import { readBuffered } from '../../lib/system/sockets/node-sockets.js';
import { describeError } from '../../lib/util/escape.js';
import { CHANNEL_OPTION, type Command } from '../command/command.js';
import { servicePlace } from '../command/labels.js';
import { openServiceSocket } from '../command/open-service.js';

export const command: Command = {
  usage: 'connect [LABEL/]SERVICE [--channel LABEL]',
  about:
    "Connects standard input and output to a service of the peer, as in ssh -o ProxyCommand='vproxy connect ssh' vm1. Each direction ends on its own; the command ends when both have, or with the status of the error if the stream is reset.",
  examples: [
    ["ssh -o ProxyCommand='vproxy connect vm1/ssh' root@vm1", 'ssh into vm1, without a port'],
    ['echo hello | vproxy connect vm1/echo', 'Talk to a service'],
  ],
  options: CHANNEL_OPTION,
  operands: ['SERVICE'],
  async run(args) {
    const { service, channel } = servicePlace(args, args.operands[0] ?? '');
    const request = { socket: args.text('socket'), name: args.text('name'), service, channel };
    await joinStandardStreams(await openServiceSocket(request));
  },
};

/**
 * Carries bytes both ways with back-pressure, and half-closes each direction at its EOF; resolves when both have ended, or
 * when the reader of the output has closed it. Rejects with the stream's error.
 */
async function joinStandardStreams(service: ServiceSocket): Promise<void> {
  const { socket } = service;
  const input: Readable = process.stdin;
  const output = openOutput();
  try {
    await new Promise<void>((resolve, reject) => {
      let open = 2;
      const ended = (): void => {
        open -= 1;
        if (open === 0) resolve();
      };
      const judged = (reason: VproxyError | null): void => {
        if (reason !== null) {
          reject(reason);
          return;
        }
        if (output !== process.stdout) output.end();
        ended();
      };
      socket.once('end', () => void service.judgeEnd().then(judged)).once('finish', ended);
      socket.on('error', (error) => void service.judgeError(error).then(reject));
      input.once('error', (error) => reject(new VproxyError('local-error', `standard input: ${describeError(error)}`)));
      output.once('error', (error) => {
        if (systemCode(error) === 'EPIPE') resolve();
        else reject(new VproxyError('local-error', `standard output: ${describeError(error)}`));
      });
      if (input instanceof net.Socket) carry(input, socket, INPUT_FD).once('end', () => socket.end());
      else input.pipe(socket);
      carry(socket, output, OUTPUT_FD);
    });
    await written(output);
  } finally {
    socket.destroy();
    // It may never reach EOF.
    input.destroy();
  }
}

/** The most that is read at once, in bytes. */
const ROOM_BYTES = 262_144;

/** After this many bytes in one direction, a larger pipe is worth the time that it takes to load koffi. */
const BULK_BYTES = 33_554_432;

/**
 * Writes what `from` reads, out of one buffer, which is read into again once its bytes were taken. Returns `from`. `ownFd` is the
 * descriptor of the standard stream among the two.
 */
function carry(from: net.Socket, to: Writable, ownFd: number): net.Socket {
  const room = Buffer.allocUnsafeSlow(ROOM_BYTES);
  let leftBytes = BULK_BYTES;
  const goOn = (): void => {
    if (to.writableLength === 0) from.resume();
  };
  const early = from.read() as Buffer | null;
  if (early !== null) to.write(early, goOn);
  readBuffered(from, {
    buffer: () => room,
    callback: (byteCount) => {
      if (leftBytes > 0) {
        leftBytes -= byteCount;
        if (leftBytes <= 0) void enlargeOwnPipe(ownFd);
      }
      to.write(room.subarray(0, byteCount), goOn);
      return to.writableLength === 0;
    },
  });
  if (to.writableLength > 0) from.pause();
  return from;
}

/** With the 64 KiB of a new pipe, its two ends take turns sleeping. */
async function enlargeOwnPipe(fd: number): Promise<void> {
  const { enlargePipe } = await import('../../lib/system/sockets/socket-buffer.js');
  await enlargePipe(fd, ROOM_BYTES);
}

/** Resolves when everything written has been flushed, or cannot be. */
function written(output: Writable): Promise<void> {
  return new Promise((resolve) => {
    if (output.destroyed) resolve();
    else if (output.writableEnded) output.once('close', resolve);
    else output.write('', () => resolve());
  });
}

/** Standard output that can be closed, so that a reader sees EOF, while this process continues. */
function openOutput(): Writable {
  const stat = fstatSync(OUTPUT_FD);
  if (!stat.isFIFO() && !stat.isSocket()) return process.stdout;
  const output = new net.Socket({ fd: OUTPUT_FD, readable: false, writable: true });
  // libuv never closes this descriptor. No other file must get its number.
  output.once('close', () => {
    closeSync(OUTPUT_FD);
    openSync('/dev/null', 'r+');
  });
  return output;
}

const INPUT_FD = 0;
const OUTPUT_FD = 1;
