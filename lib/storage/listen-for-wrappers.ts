/** Where a broker listens: at the path that the user gave, else at the first default that can be had. */
import { VproxyError } from '../errors.js';
import type { StorageBroker } from './broker.js';

/** How listening went: the path, or why no default could be had. */
export type WrapperListening = { readonly path: string } | { readonly warning: VproxyError };

/**
 * Makes a broker listen. An explicit path that cannot be had is an error (rejects with the codes of
 * `StorageBroker.listen`); of the defaults (`storageSocketPaths`) each is tried until one can be had, and to have none
 * is only a warning. A default that another process listens at is not passed over: its wrappers would not find this one.
 */
export async function listenForWrappers(
  broker: StorageBroker,
  explicitPath: string | undefined,
  defaultPaths: readonly string[],
): Promise<WrapperListening> {
  if (explicitPath !== undefined) {
    await broker.listen(explicitPath);
    return { path: explicitPath };
  }
  let warning = new VproxyError('address-unavailable', 'there is no default path for the storage socket');
  for (const path of defaultPaths) {
    try {
      await broker.listen(path);
      return { path };
    } catch (error) {
      if (!(error instanceof VproxyError)) throw error;
      warning = error;
      if (error.code === 'address-in-use') break;
    }
  }
  return { warning };
}
