// Lint: typescript-eslint's strict rules, and the direction of the layers (docs/architecture.md).
import { defineConfig } from 'eslint/config';
import regexp from 'eslint-plugin-regexp';
import tseslint from 'typescript-eslint';

/** The layers from left to right: each may import itself, those before it, `errors`, `events`, `remedies` and `util`. */
const LAYERS = [
  'codec',
  'session',
  'system',
  'link',
  'channel',
  'forward',
  'storage',
  'status',
  'services',
  'proxy',
  'settings',
  'control',
];

/** What a layer must not import, as `no-restricted-imports` patterns relative to a file in `lib/LAYER/`. */
function layerRule(layer, index) {
  const later = LAYERS.slice(index + 1);
  const group = [...later.map((name) => `**/${name}/**`), '**/cli/**', '**/spec/**', '**/tools/**', '**/lib/index.js'];
  const pure = layer === 'codec' || layer === 'session';
  const ioModules = ['net', 'fs', 'tls', 'tty', 'dgram', 'http', 'https', 'child_process', 'timers', 'timers/promises'];
  return {
    files: [`lib/${layer}/**/*.ts`],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [{ group, message: `lib/${layer} may not import what stands to its right.` }],
          paths: pure
            ? ioModules.map((name) => ({ name: `node:${name}`, message: `lib/${layer} does no I/O and has no clock.` }))
            : [],
        },
      ],
      'no-restricted-globals': pure
        ? ['error', 'setTimeout', 'setInterval', 'setImmediate', 'Date', 'performance', 'process', 'queueMicrotask']
        : 'off',
    },
  };
}

export default defineConfig(
  { ignores: ['dist/', 'node_modules/', 'coverage/'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      eqeqeq: 'error',
    },
  },
  { files: ['lib/**/*.ts'], rules: { 'no-console': 'error' } },
  {
    // No expression that a text of somebody else makes slow (docs/decisions/0029).
    files: ['lib/**/*.ts', 'cli/**/*.ts'],
    plugins: { regexp },
    rules: {
      'regexp/no-super-linear-backtracking': ['error', { report: 'potential' }],
      'regexp/no-super-linear-move': ['error', { report: 'potential' }],
    },
  },
  {
    // `net.isIP` and `net.isIPv6` compile an expression for 10 ms at their first call, even for an IPv4 address.
    files: ['lib/**/*.ts', 'cli/**/*.ts'],
    ignores: ['lib/util/addresses/host-port.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        ...[
          "MemberExpression[object.name='net'] > .property",
          "ImportDeclaration[source.value='node:net'] .imported",
        ].map((place) => ({
          selector: `${place}[name=/^isIP(v6)?$/]`,
          message: 'Use that of lib/util/addresses/host-port.ts.',
        })),
        {
          selector: "AwaitExpression > CallExpression[callee.property.name='nextTurn']",
          message: 'Await it only if it is not null, and work at once after it.',
        },
        {
          // It may have come from an earlier process, with what its type leaves out.
          selector:
            "SpreadElement:not(:first-child)[argument.property.type='PrivateIdentifier'][argument.property.name='state']",
          message: 'Put it first: what follows is newer.',
        },
      ],
    },
  },
  ...LAYERS.map(layerRule),
  {
    // The suite is offered to others: specs import it, and not the other way round.
    files: ['conformance/**/*.ts'],
    rules: { 'no-restricted-imports': ['error', { patterns: ['**/cli/**', '**/spec/**', '**/tools/**'] }] },
  },
  {
    files: ['lib/util/**/*.ts', 'lib/{errors,events,remedies,system-errors}.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            ...LAYERS.map((layer) => `**/${layer}/**`),
            '**/cli/**',
            '**/spec/**',
            '**/tools/**',
            '**/lib/index.js',
          ],
        },
      ],
    },
  },
  {
    // Below the command line nothing exits or reads argv or the environment.
    files: ['lib/**/*.ts'],
    ignores: ['lib/codec/**', 'lib/session/**'],
    rules: {
      'no-restricted-properties': [
        'error',
        { object: 'process', property: 'exit' },
        { object: 'process', property: 'argv' },
        { object: 'process', property: 'env' },
      ],
    },
  },
);
