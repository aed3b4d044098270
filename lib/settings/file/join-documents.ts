/** Joins configuration files: each may set any key, but no key is set twice. */
import { type FileProblem, type KeyPath, showFile } from '../problem.js';
import { INCLUDE } from '../settings-table.js';
import { isTable } from '../value-type.js';
import type { ConfigurationDocument } from './document.js';

interface JoinedDocuments {
  readonly value: Readonly<Record<string, unknown>>;
  readonly problems: FileProblem[];
  /** The file that sets a key; the first one if no file does. */
  readonly fileOf: (where: KeyPath) => string;
}

/** The schema of a file, which only editors read. */
const SCHEMA_KEY = '$schema';

/** Joins the tables of channels, services and egresses by their names; any other key is set by one file. */
export function joinDocuments(documents: readonly ConfigurationDocument[]): JoinedDocuments {
  const settings = new Map<string, unknown>();
  const problems: FileProblem[] = [];
  const owners = new Map<string, string>();
  const ownerOf = (where: KeyPath): string | undefined => owners.get(JSON.stringify(where));
  const own = (file: string, where: KeyPath): boolean => {
    const other = ownerOf(where);
    if (other === undefined) owners.set(JSON.stringify(where), file);
    else problems.push({ file, where, message: `already set in ${showFile(other)}` });
    return other === undefined;
  };
  const add = (file: string, key: string, value: unknown): void => {
    const joined = settings.get(key);
    if (!isTable(value) || (joined !== undefined && !(joined instanceof Map))) {
      if (own(file, [key])) settings.set(key, value);
      return;
    }
    const table = joined ?? new Map<string, unknown>();
    if (joined === undefined) own(file, [key]);
    for (const [name, one] of Object.entries(value)) if (own(file, [key, name])) table.set(name, one);
    settings.set(key, table);
  };
  for (const document of documents) {
    const { file, isInFolder = false } = document;
    if ('problem' in document) problems.push({ file, ...document.problem });
    else if (!isTable(document.value)) problems.push({ file, where: [], message: 'expected a JSON object' });
    else {
      for (const [key, value] of Object.entries(document.value)) {
        if (key === INCLUDE.key && isInFolder) {
          problems.push({ file, where: [key], message: 'only allowed in the file that --config names' });
        } else if (key !== SCHEMA_KEY) add(file, key, value);
      }
    }
  }
  const plain = (value: unknown): unknown => (value instanceof Map ? Object.fromEntries(value) : value);
  return {
    value: Object.fromEntries([...settings].map(([key, value]) => [key, plain(value)])),
    problems,
    fileOf: (where) => ownerOf(where.slice(0, 2)) ?? ownerOf(where.slice(0, 1)) ?? documents[0]?.file ?? '',
  };
}
