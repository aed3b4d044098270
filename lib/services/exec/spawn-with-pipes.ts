/** Runs a command with pipes for its input and outputs. */
import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { ProcessGroup, spawned, startTurns } from '../../system/processes/children.js';
import { type OpenPipes, openSystemPipes, type PipedChild, spawnPiped } from '../../system/processes/pipes.js';
import type { CommandOptions, RunningCommand } from './running-command.js';
import { spawnFailure } from './spawn-failure.js';

/**
 * Starts a command. Rejects with `command-not-found` or `command-failed`. Without pipes (koffi is missing) it gets unix
 * sockets, which it cannot reopen as `/dev/stdout`, and always two.
 */
export async function spawnWithPipes(
  options: CommandOptions,
  openPipes: OpenPipes = openSystemPipes,
): Promise<RunningCommand> {
  const { file, argv, cwd, env, uid, gid, owner, hasInput = true, hasOneOutput = false } = options;
  const ids = { ...(uid !== undefined && { uid }), ...(gid !== undefined && { gid }) };
  const opened = await openPipes(1 + (hasOneOutput ? 0 : 1) + (hasInput ? 1 : 0), owner);
  const pipes = hasOneOutput && opened?.[0] !== undefined ? [opened[0], ...opened] : opened;
  const start = async (): Promise<RunningCommand> => {
    const piped = spawnPiped(pipes, hasInput, (stdio) => {
      options.requireWanted?.();
      return spawn(file, argv.slice(1), { argv0: argv[0] ?? file, cwd, env, ...ids, stdio, detached: true });
    });
    await spawned(piped.child).catch((error: unknown) => {
      piped.release();
      throw error;
    });
    return running(piped);
  };
  return startTurns.queue(start).catch((error: unknown) => {
    throw spawnFailure(error, options);
  });
}

function running({ child, stdin, stdout, stderr, release }: PipedChild): RunningCommand {
  const group = new ProcessGroup(child);
  // A broken pipe is reported by its close.
  for (const stream of [stdin, stdout, stderr]) stream?.on('error', () => undefined);
  return {
    pid: group.pid,
    stdin,
    // Always set for a child that has started.
    stdout: stdout as Readable,
    stderr,
    ended: group.ended,
    resize: () => undefined,
    signal: (name) => group.signal(name),
    release,
  };
}
