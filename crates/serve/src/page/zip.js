"use strict";

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit += 1) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Little-endian numbers of the given bytes: pairs of value and size. */
function numbers(...pairs) {
  return Uint8Array.from(pairs.flatMap(([value, size]) => Array.from({ length: size }, (_, at) => value >>> (8 * at) & 255)));
}

/**
 * A zip archive of files, `{ name, blob }` each. They are stored, because images are compressed already; up to 4 GiB
 * in all. Of files of one name, the later ones get a number.
 */
async function zip(files) {
  const [parts, directory, names] = [[], [], new Set()];
  let offset = 0;
  for (const { name, blob } of files) {
    let unique = name;
    for (let number = 2; names.has(unique); number += 1) unique = name.replace(/(\.[^.]*)?$/, `-${number}$1`);
    names.add(unique);
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const text = new TextEncoder().encode(unique);
    // Version 2.0, names in UTF-8, stored, 1 January 1980.
    const common = numbers([20, 2], [0x800, 2], [0, 2], [0, 2], [0x21, 2], [crc32(bytes), 4], [bytes.length, 4],
      [bytes.length, 4], [text.length, 2], [0, 2]);
    parts.push(numbers([0x04034b50, 4]), common, text, blob);
    directory.push(numbers([0x02014b50, 4], [20, 2]), common, numbers([0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), text);
    offset += 30 + text.length + bytes.length;
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  const end = numbers([0x06054b50, 4], [0, 4], [files.length, 2], [files.length, 2], [length, 4], [offset, 4], [0, 2]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
