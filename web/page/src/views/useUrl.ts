import { useEffect, useState } from "preact/hooks";
import { pictureUrl, token } from "../api";

/** Returns the URL for an image element: paths of a server that asks for a token are fetched. */
export function useUrl(url: string): string {
  const isDirect = !url || url.startsWith("blob:") || !token.value;
  const [fetched, setFetched] = useState("");
  useEffect(() => {
    if (isDirect) return undefined;
    const controller = new AbortController();
    let made = "";
    pictureUrl(url, controller.signal).then(
      (found) => {
        made = found;
        setFetched(found);
      },
      () => setFetched(""),
    );
    return () => {
      controller.abort();
      if (made) URL.revokeObjectURL(made);
    };
  }, [url, isDirect]);
  return isDirect ? url : fetched;
}
