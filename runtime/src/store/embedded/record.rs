//! The form of one record in a segment of the log.
//!
//! A record is a header, the same header again, the body, and zeros up to eight bytes. The second
//! header says whose a record is when the first is damaged. Both checksums begin with the
//! generation of the segment, so that what a segment held in an earlier life never looks valid.

/// How long one of the two headers is, in bytes.
const HEADER_BYTES: usize = 64;

/// Where the body of a record begins.
pub(super) const BODY_AT: usize = 2 * HEADER_BYTES;

/// The first bytes of the first header, and of the second: each is recognised in its place only.
const MAGIC: [u32; 2] = [0x3152_4c4c, 0x3252_4c4c];

/// What a record is of, if not of an element: a mark that proves all before it durable.
pub(super) const MARK: u32 = u32::MAX;

/// What is known of a record without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Its place among all records ever written; no two are equal.
    pub(super) sequence: u64,
    /// The sequence of the first record written in the same step. All records before that one
    /// were durable when this one was written.
    pub(super) group: u64,
    /// The number of its element, or [`MARK`].
    pub(super) element: u32,
    /// How long the body is, in bytes.
    pub(super) length: u32,
    /// The index of the batch's first entry.
    pub(super) first: u64,
    /// The index of the batch's last entry.
    pub(super) last: u64,
    /// When the batch was taken, in microseconds since 1970.
    pub(super) logged_at: i64,
    /// Whether it was copied here from an older segment.
    pub(super) moved: bool,
}

impl Header {
    /// How many bytes the whole record takes.
    pub(super) fn record_bytes(&self) -> usize {
        record_bytes(self.length as usize)
    }
}

/// How many bytes a record with a body of `length` bytes takes.
pub(super) fn record_bytes(length: usize) -> usize {
    BODY_AT + length.next_multiple_of(8)
}

/// Appends the record to `bytes`.
pub(super) fn write(bytes: &mut Vec<u8>, generation: u64, header: &Header, body: &[u8]) {
    let start = bytes.len();
    let mut fields = Vec::with_capacity(HEADER_BYTES - 8);
    fields.extend(header.sequence.to_le_bytes());
    fields.extend(header.group.to_le_bytes());
    fields.extend(header.element.to_le_bytes());
    fields.extend(header.length.to_le_bytes());
    fields.extend(header.first.to_le_bytes());
    fields.extend(header.last.to_le_bytes());
    fields.extend(header.logged_at.to_le_bytes());
    fields.extend(checksum(generation, body).to_le_bytes());
    fields.extend(u32::from(header.moved).to_le_bytes());
    for magic in MAGIC {
        bytes.extend(magic.to_le_bytes());
        bytes.extend(checksum(generation, &fields).to_le_bytes());
        bytes.extend(&fields);
    }
    bytes.extend(body);
    bytes.resize(start + header.record_bytes(), 0);
}

/// A record found in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What it says of itself.
    pub(super) header: Header,
    /// Whether its body is as it was written.
    pub(super) whole: bool,
}

/// The record that begins at the start of `bytes`, if one does.
pub(super) fn read(bytes: &[u8], generation: u64) -> Option<Found> {
    let (header, body_checksum) = read_header(bytes, MAGIC[0], generation)
        .or_else(|| read_header(bytes.get(HEADER_BYTES..)?, MAGIC[1], generation))?;
    let body = bytes.get(BODY_AT..BODY_AT + header.length as usize);
    let whole = body.is_some_and(|body| checksum(generation, body) == body_checksum);
    Some(Found { header, whole })
}

fn read_header(bytes: &[u8], magic: u32, generation: u64) -> Option<(Header, u32)> {
    let bytes = bytes.get(..HEADER_BYTES)?;
    let (start, fields) = bytes.split_at(8);
    let mut rest = Fields(start);
    if rest.number::<4>() != u64::from(magic) {
        return None;
    }
    if rest.number::<4>() != u64::from(checksum(generation, fields)) {
        return None;
    }
    let mut rest = Fields(fields);
    let header = Header {
        sequence: rest.number::<8>(),
        group: rest.number::<8>(),
        element: rest.small(),
        length: rest.small(),
        first: rest.number::<8>(),
        last: rest.number::<8>(),
        logged_at: rest.number::<8>().cast_signed(),
        moved: false,
    };
    let body_checksum = rest.small();
    let moved = rest.small() == 1;
    Some((Header { moved, ..header }, body_checksum))
}

/// The fields of a header that are still to be read.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn number<const WIDTH: usize>(&mut self) -> u64 {
        let (digits, rest) = self.0.split_at(WIDTH);
        self.0 = rest;
        digits
            .iter()
            .rev()
            .fold(0, |sum, digit| sum << 8 | u64::from(*digit))
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.number::<4>()).expect("four bytes make 32 bits")
    }
}

/// The checksum of `bytes` in a segment of this generation.
pub(super) fn checksum(generation: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_in_its_own_generation_only() {
        let (header, bytes) = sample();
        assert_eq!(
            read(&bytes, 5),
            Some(Found {
                header,
                whole: true
            })
        );
        assert_eq!(read(&bytes, 6), None);
        assert_eq!(bytes.len(), header.record_bytes());
    }

    #[test]
    fn any_flipped_bit_is_either_mended_or_told_with_the_record_it_is_in() {
        let (header, bytes) = sample();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let in_body = (BODY_AT..BODY_AT + header.length as usize).contains(&(bit / 8));
            let expected = Found {
                header,
                whole: !in_body,
            };
            assert_eq!(read(&flipped, 5), Some(expected), "bit {bit}");
        }
    }

    #[test]
    fn a_record_that_is_cut_off_is_not_whole() {
        let (header, bytes) = sample();
        for length in 0..bytes.len() {
            let found = read(&bytes[..length], 5);
            let expected = (length >= HEADER_BYTES).then_some(Found {
                header,
                whole: length >= BODY_AT + header.length as usize,
            });
            assert_eq!(found, expected, "{length} bytes");
        }
    }

    fn sample() -> (Header, Vec<u8>) {
        let header = Header {
            sequence: u64::MAX - 1,
            group: 7,
            element: 3,
            length: 13,
            first: 11,
            last: 12,
            logged_at: -5,
            moved: true,
        };
        let mut bytes = Vec::new();
        write(&mut bytes, 5, &header, b"thirteen byte");
        (header, bytes)
    }
}
