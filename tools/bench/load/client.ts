/**
 * The near end of the load, a separate process that takes commands over IPC, one at a time. It stays
 * warm from one contender to the next. Messages: `LoadCommand` in, `LoadAnswer` out.
 */
import type { LoadAnswer, LoadCommand, LoadFigures } from './command.js';
import { type Address, type Connect, connectSocket } from './connection.js';
import { measureConnections } from './connections.js';
import { measureEcho } from './echo.js';
import { HeldConnections } from './held.js';

const held = new HeldConnections();

async function run(command: LoadCommand): Promise<LoadFigures> {
  const to = (address: Address): Connect => connectSocket.bind(null, address);
  switch (command.kind) {
    case 'rate':
      return { rate: await held.moveBytes(command, to(command.address)) };
    case 'echo':
      return { ...(await measureEcho(command.bytes, command, to(command.address))) };
    case 'connections':
      return { perSecond: await measureConnections(command.address, command.count, command.parallel) };
    case 'start-bulk':
      await held.startBulk(command.direction, command.streams, to(command.address));
      return {};
    case 'count-bulk':
      return { bytes: held.bulkBytes, atMs: performance.now() };
    case 'hold':
      await held.hold(command.count, to(command.address));
      return {};
    case 'hold-unread':
      await held.holdUnread(to(command.address));
      return {};
    case 'release':
      await held.release();
      return {};
  }
}

async function answer(command: LoadCommand): Promise<void> {
  const before = process.cpuUsage();
  const spent = (): number => {
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1e6;
  };
  let result: LoadAnswer;
  try {
    const figures = await run(command);
    result = { figures, cpuSeconds: spent() };
  } catch (error) {
    result = { failure: error instanceof Error ? error.message : String(error), cpuSeconds: spent() };
  }
  process.send?.(result);
}

process.on('message', (command: LoadCommand) => void answer(command));
// The parent process has exited.
process.on('disconnect', () => process.exit(0));
