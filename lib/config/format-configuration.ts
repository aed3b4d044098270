/** The text of what is in force, such as a configuration file has it. */
import { stringify } from 'smol-toml';
import { formatJson } from '../util/json-line.js';
import { type Configuration } from './configuration.js';
import { describeConfiguration } from './describe-configuration.js';

/** TOML or JSON, with a newline at its end; `parseConfiguration` reads it back. */
export function formatConfiguration(configuration: Configuration, format: 'toml' | 'json'): string {
  const value = describeConfiguration(configuration);
  return format === 'json' ? `${formatJson(value, 2)}\n` : `${stringify(value)}\n`;
}
