/** JSON as one word of a conversation. */
export const json = (value: unknown): string =>
  JSON.stringify(value).replace(/[ ;]/g, (letter) => `\\u00${letter.charCodeAt(0).toString(16)}`);
