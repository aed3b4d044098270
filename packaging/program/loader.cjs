// The beginning of dist/program/vproxy.cjs. The files beside it contain parts of the program and of the library, as functions that
// are called when a part is first required.
'use strict';
const builtin = process.getBuiltinModule;
const { openSync, readFileSync } = builtin('node:fs');
const { compileFunction } = builtin('node:vm');

/** The file of each part, by name; filled in by the build. */
const PART_FILES = {};

/** Files to open along with another one, by its name: an update may replace them before they are read. */
const KEPT_FILES = {};

/** Loads the files that the library needs, by name, so that bundlers find them. The file itself is loaded already. */
const LIBRARY_FILES = {};

const isProgram = require.main === module;

/** The loaded parts, including those being loaded. */
const parts = new Map();

/** The functions of each file that was read. */
const functions = new Map();

/** Descriptors of files that are read later. */
const kept = new Map();

function requirePart(name) {
  if (!Object.hasOwn(PART_FILES, name)) return builtin(name) ?? require(name);
  const known = parts.get(name);
  if (known !== undefined) return known.exports;
  const part = { exports: {} };
  parts.set(name, part);
  try {
    const run = functionsOf(PART_FILES[name])[name];
    if (run === undefined) throw new Error(`${PART_FILES[name]} is from another version than ${__filename}`);
    run(part.exports, requirePart, part);
  } catch (error) {
    parts.delete(name);
    throw error;
  }
  return part.exports;
}

function functionsOf(file) {
  const known = functions.get(file);
  if (known !== undefined) return known;
  const loaded = isProgram ? readFunctions(file) : LIBRARY_FILES[file]();
  functions.set(file, loaded);
  return loaded;
}

function readFunctions(file) {
  for (const later of KEPT_FILES[file] ?? []) kept.set(later, openSync(`${__dirname}/${later}`));
  const path = `${__dirname}/${file}`;
  const module = { exports: {} };
  const text = readFileSync(kept.get(file) ?? path, 'utf8');
  compileFunction(text, ['module', 'require', '__filename'], { filename: path })(module, require, path);
  return module.exports;
}
