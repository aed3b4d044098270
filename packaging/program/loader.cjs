// The beginning of dist/program/vproxy.cjs. The files beside it contain the parts of the program and of the library, as functions
// that are called when a part is first required. The program reads and compiles each part by itself.
'use strict';
const builtin = process.getBuiltinModule;
const { openSync, readSync } = builtin('node:fs');
const { compileFunction } = builtin('node:vm');

/** Where each part is: the index of its file, offset and length there, and the line; filled in by the build. */
const PARTS = {};

/** The files, which the library loads as modules, so that bundlers find them; filled in by the build. */
const FILES = [];

const isProgram = require.main === module;

/** The loaded parts, including those being loaded. */
const parts = new Map();

/** Open from the start: an update may replace the files before all parts are read. */
const descriptors = isProgram ? FILES.map(({ name }) => openSync(`${__dirname}/${name}`)) : [];

function requirePart(name) {
  if (!Object.hasOwn(PARTS, name)) return builtin(name) ?? require(name);
  const known = parts.get(name);
  if (known !== undefined) return known.exports;
  const part = { exports: {} };
  parts.set(name, part);
  try {
    const run = isProgram ? compilePart(name) : FILES[PARTS[name][0]].load()[name];
    run(part.exports, requirePart, part);
  } catch (error) {
    parts.delete(name);
    throw error;
  }
  return part.exports;
}

function compilePart(name) {
  const [file, offset, length, lineOffset] = PARTS[name];
  const path = `${__dirname}/${FILES[file].name}`;
  const bytes = Buffer.allocUnsafeSlow(length);
  const text = bytes.latin1Slice(0, readSync(descriptors[file], bytes, 0, length, offset));
  const [head, tail] = [`${JSON.stringify(name)}:function(exports,require,module){`, '\n},\n'];
  if (!text.startsWith(head) || !text.endsWith(tail))
    throw new Error(`${path} is from another version than ${__filename}`);
  const code = text.slice(head.length, -tail.length);
  const names = ['exports', 'require', 'module', '__filename'];
  const run = compileFunction(code, names, { filename: path, lineOffset });
  return (exports, require, module) => run(exports, require, module, path);
}
