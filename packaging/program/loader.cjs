// The beginning of dist/program/vproxy.cjs. The files beside it have parts of the program, as functions that are called when
// something requires the part for the first time.
'use strict';
const { openSync, readFileSync } = require('node:fs');
const { compileFunction } = require('node:vm');

/** The file of each part, by their names: a build writes them here. */
const PART_FILES = {};

/** Files that are opened with another one, by its name: an update may have replaced them by the time they are read. */
const KEPT_FILES = {};

/** What the parts export, those that are loading included. */
const parts = new Map();

/** The parts of each file that was read, as functions. */
const functions = new Map();

/** Descriptors of files that are read later. */
const kept = new Map();

function requirePart(name) {
  if (!Object.hasOwn(PART_FILES, name)) return require(name);
  const known = parts.get(name);
  if (known !== undefined) return known.exports;
  const part = { exports: {} };
  parts.set(name, part);
  try {
    const run = functionsOf(PART_FILES[name])[name];
    if (run === undefined) throw new Error(`${PART_FILES[name]} is of another version than ${__filename}`);
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
  for (const later of KEPT_FILES[file] ?? []) kept.set(later, openSync(`${__dirname}/${later}`));
  const path = `${__dirname}/${file}`;
  const module = { exports: {} };
  const text = readFileSync(kept.get(file) ?? path, 'utf8');
  compileFunction(text, ['module', 'require', '__filename'], { filename: path })(module, require, path);
  functions.set(file, module.exports);
  return module.exports;
}
