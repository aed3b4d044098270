/** A configuration file from the disk. */
import { createReadStream } from 'node:fs';
import { VproxyError } from '../errors.js';
import { describeError } from '../util/escape.js';
import type { FileLayer } from './configuration.js';
import { type ParsedConfiguration, parseConfiguration } from './parse-configuration.js';
import { BadFileError, formatProblem } from './problem.js';

/** Larger than a file with thousands of channels, in bytes. */
const MAX_FILE_BYTES = 4 * 2 ** 20;

/** What the file says, and everything that is wrong with it. Rejects with a `BadFileError` where it cannot be read. */
export async function inspectConfigurationFile(path: string): Promise<ParsedConfiguration> {
  return parseConfiguration(await readText(path), path);
}

/** What the file says. Rejects with a `BadFileError` that has everything that is wrong. */
export async function readConfigurationFile(path: string): Promise<FileLayer> {
  const { layer, problems } = await inspectConfigurationFile(path);
  if (problems.length > 0) throw new BadFileError(problems.map((problem) => formatProblem(path, problem)));
  return layer;
}

async function readText(path: string): Promise<string> {
  try {
    const chunks: Buffer[] = [];
    let byteCount = 0;
    // What is not a plain file may have no end.
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      byteCount += chunk.length;
      if (byteCount > MAX_FILE_BYTES) throw new VproxyError('bad-file', `it has more than ${MAX_FILE_BYTES} bytes`);
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch (cause) {
    const why = cause instanceof TypeError ? 'it is not UTF-8' : describeError(cause);
    const message = `it cannot be read: ${why}`;
    throw new BadFileError([formatProblem(path, { where: [], message })], { cause });
  }
}
