// At the head of every program: exits with one line and status 69 if Node is too old to parse the rest. So it is written in
// JavaScript that any Node understands, without imports.
'use strict';

function requireNode(oldest) {
  var own = process.versions.node.split('.');
  var least = oldest.split('.');
  if (Number(own[0]) > Number(least[0])) return;
  if (own[0] === least[0] && Number(own[1]) >= Number(least[1])) return;
  process.stderr.write(
    'vproxy needs Node ' + oldest + ' or newer; this is ' + own.join('.') + ': see https://nodejs.org/en/download\n',
  );
  process.exit(69);
}

/** Returns the oldest version that package.json allows, such as `20.19`. */
function oldestNode(engines) {
  return /\d+\.\d+/.exec(engines.node)[0];
}

module.exports = { requireNode: requireNode, oldestNode: oldestNode };
