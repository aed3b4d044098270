/** Maps stack traces back to source lines: the program runs from a few bundled files. */

import { readFileSync } from 'node:fs';
import { SourceMap, type SourceMapPayload } from 'node:module';
import { dirname, join } from 'node:path';
import { orElse } from '../../lib/util/or-else.js';

/** A location in a trace: file, line and column, both from 1. */
const PLACE = /(?<![^\s():])(\/[^\s():]+\.[cm]?js):(\d+):(\d+)/g;

/** Maps the locations of `stack` in files with a map beside them (`FILE.map`) to the sources; others stay. */
export function sourceTrace(stack: string): string {
  const maps = new Map<string, SourceMap | null>();
  return stack.replace(PLACE, (place, file: string, line: string, column: string) => {
    const map = maps.get(file) ?? readMap(file);
    maps.set(file, map);
    const entry = map?.findEntry(Number(line) - 1, Number(column) - 1);
    if (entry === undefined || !('originalSource' in entry)) return place;
    return `${join(dirname(file), entry.originalSource)}:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
  });
}

const readMap = (file: string): SourceMap | null =>
  orElse(null, () => new SourceMap(JSON.parse(readFileSync(`${file}.map`, 'utf8')) as SourceMapPayload));
