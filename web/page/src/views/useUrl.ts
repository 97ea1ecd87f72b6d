import { useEffect, useState } from "preact/hooks";
import { fetchPicture, token } from "../api";

/** Returns the URL for an image element: paths of a server that asks for a token are fetched. */
export function useUrl(url: string): string {
  const isDirect = !url || url.startsWith("blob:") || !token.value;
  const [fetched, setFetched] = useState("");
  useEffect(() => {
    if (isDirect) return undefined;
    const controller = new AbortController();
    let made = "";
    fetchPicture(url, controller.signal).then(
      (found) => {
        made = URL.createObjectURL(found);
        setFetched(made);
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
