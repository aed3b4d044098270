/** Rules of egresses, `[egress.internet]`: where their targets let the peers out to. */
import { type ChannelEgress, checkEgressEntry, checkUpstream } from '../proxy/channel-egress.js';
import { type NamedTables, namedTables, parseNamedTables } from './named-tables.js';
import type { GivenOptions, SettingWithin } from './setting.js';
import { type Form, list, parsed, type ValueType } from './value-type.js';

const same = (value: string): string => value;

const entries = list(
  parsed('an entry, such as "deb.debian.org:80,443"', checkEgressEntry, same),
  'a list of entries, such as ["deb.debian.org:80,443"]',
);

/** What is said of an egress. */
export const EGRESS_SETTINGS = [
  {
    key: 'allow',
    field: 'allow',
    type: entries,
    about: 'What may be reached: names, addresses and networks, each with its ports; default: nothing',
    reload: 'now',
  },
  {
    key: 'deny',
    field: 'deny',
    type: entries,
    about: 'What may not be reached, whatever `allow` says; default: nothing more',
    reload: 'now',
  },
  {
    key: 'upstream',
    field: 'upstream',
    type: parsed('HOST:PORT', checkUpstream, same),
    about: 'The HTTP proxy behind which everything is reached, `HOST:PORT`; default: none',
    reload: 'now',
  },
] as const satisfies readonly SettingWithin<'egress', unknown>[];

const SORT = {
  rows: EGRESS_SETTINGS,
  named: 'an egress',
  table: 'an egress',
  header: '[egress.internet]',
  inline: '{ allow = ["deb.debian.org:80,443"] }',
  option: { shown: '--egress', form: 'NAME:KEY=VALUE[,KEY=VALUE…]', example: 'internet:allow=deb.debian.org:80,443' },
  hasCommas: true,
  schema: {
    id: 'EgressRequest',
    description: 'Where the targets of an egress let the peer out to; `{channel}` in an entry stands for the label',
  },
} as const satisfies NamedTables<typeof EGRESS_SETTINGS>;

/** Rules by the names of the egresses. */
export const egressRules: ValueType<ChannelEgress> = namedTables(SORT);

/** The rules of `--egress NAME:KEY=VALUE[,KEY=VALUE…]`. Throws `bad-argument`. */
export function parseEgressOptions(given: GivenOptions, form: Form): ChannelEgress | undefined {
  return parseNamedTables(SORT, given, form);
}
