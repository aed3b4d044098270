/** What a compiled module loads at once, without what it may load later. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The paths of all files that these files load, themselves included, and the names of packages and built-in modules. */
export function staticImports(files: readonly string[], found = new Set<string>()): Set<string> {
  for (const file of files) {
    if (found.has(file)) continue;
    found.add(file);
    const text = readFileSync(file, 'utf8');
    const names = [...text.matchAll(/^(?:import|export) (?:[^'"]* from )?'([^']+)'/gm)].map(([, name = '']) => name);
    for (const name of names) {
      if (name.startsWith('.')) staticImports([join(dirname(file), name)], found);
      else found.add(name);
    }
  }
  return found;
}
