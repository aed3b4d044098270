/** Attributes of XML. */

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', "'": '&apos;' };

/** ` name='value'`; the value is text without control characters. */
export function formatAttribute(name: string, value: string | number): string {
  return ` ${name}='${String(value).replace(/[&<>']/g, (character) => ENTITIES[character] ?? '')}'`;
}
