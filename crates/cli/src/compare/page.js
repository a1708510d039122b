{
  const sets = JSON.parse(byId("sets").textContent);
  /** The URL of an image, decoded once. */
  const urls = new Map();
  const urlOf = (set, image) => {
    const id = `image-${set}-${image}`;
    if (!urls.has(id)) {
      const text = atob(byId(id).textContent);
      const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
      urls.set(id, URL.createObjectURL(new Blob([bytes], { type: sets[set].images[image].media_type })));
    }
    return urls.get(id);
  };
  showSets(sets, urlOf, 0);
}
