/** Why nothing new can be shown. */
import type { RequestFailure } from './requests.js';

export function Trouble({ failure }: { readonly failure: RequestFailure | null }) {
  if (failure === null) return null;
  return (
    <p class="notice bad" role="alert">
      {failure.message}
      {failure.code === 'gone' ? '. It is asked again and again.' : ''}
    </p>
  );
}
