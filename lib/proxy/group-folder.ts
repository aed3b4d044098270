/** What a group of channels finds in its folder. */
import type { Stats } from 'node:fs';
import fs from 'node:fs/promises';
import { type GroupPattern, memberLabelProblem } from './group-pattern.js';

/** The sockets that fit a group. */
export interface GroupFolder {
  /** By label, with what tells a socket from its successor, and from itself with another owner or mode. */
  readonly sockets: ReadonlyMap<string, string>;
  /** Paths of sockets that get no channel, because what the `*` stands for is no label; and why. */
  readonly misnamed: ReadonlyMap<string, string>;
}

/** Reads the folder of a group. Rejects with the error of the system. */
export async function readGroupFolder(pattern: GroupPattern): Promise<GroupFolder> {
  const parts = (await fs.readdir(pattern.folder)).map((name) => pattern.match(name)).filter((part) => part !== null);
  const sockets = new Map<string, string>();
  const misnamed = new Map<string, string>();
  await Promise.all(
    parts.map(async (part) => {
      const path = pattern.pathOf(part);
      // It may have gone in the meantime.
      const stats = await fs.stat(path).catch(() => null);
      if (stats === null || !stats.isSocket()) return;
      const problem = memberLabelProblem(part);
      if (problem === null) sockets.set(part, identityOf(stats));
      else misnamed.set(path, problem);
    }),
  );
  return { sockets, misnamed };
}

function identityOf({ dev, ino, ctimeMs }: Stats): string {
  return `${dev}:${ino}:${ctimeMs}`;
}
