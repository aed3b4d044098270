// The JSON Schema of configuration files, for editors: derived from the table of settings compiled by `npm run build`.
import { tableSchema } from '../../dist/lib/settings/setting.js';
import { FILE_SETTINGS } from '../../dist/lib/settings/settings-table.js';
import * as z from '../../dist/lib/status/zod.js';

/** Returns the schema, in the draft that editors for TOML and JSON support. */
export function describeConfiguration() {
  const file = tableSchema(z, FILE_SETTINGS, 'file').shape;
  const schema = z.string().describe('The path or URL of this schema').optional();
  const { $schema, ...described } = z.toJSONSchema(z.strictObject({ $schema: schema, ...file }), {
    target: 'draft-7',
    io: 'input',
  });
  return { $schema, title: 'Configuration of vproxy', ...described };
}
