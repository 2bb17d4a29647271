//! The few bytes that this peer reads and writes by itself: protobuf fields, length-prefixed messages, CIDs.

use std::io;

use futures::io::{AsyncRead, AsyncReadExt};
use sha2::{Digest, Sha256};

use crate::Failure;

const FIND_NODE: u64 = 4;

fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn get_varint(b: &[u8]) -> Option<(u64, &[u8])> {
    let mut v = 0u64;
    for (i, &byte) in b.iter().take(10).enumerate() {
        v |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Some((v, &b[i + 1..]));
        }
    }
    None
}

/// The length-delimited fields of a protobuf message; None if it does not parse.
pub fn fields(mut b: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut out = vec![];
    while !b.is_empty() {
        let (tag, rest) = get_varint(b)?;
        match tag & 7 {
            0 => b = get_varint(rest)?.1,
            1 => b = rest.get(8..)?,
            2 => {
                let (len, rest) = get_varint(rest)?;
                let len = usize::try_from(len).ok()?;
                out.push((tag >> 3, rest.get(..len)?));
                b = &rest[len..];
            }
            5 => b = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(out)
}

/// The first length-delimited field of that number.
pub fn field(b: &[u8], number: u64) -> Option<&[u8]> {
    fields(b)?.into_iter().find(|(n, _)| *n == number).map(|(_, v)| v)
}

/// The first varint field of that number.
pub fn number(mut b: &[u8], number: u64) -> Option<u64> {
    while !b.is_empty() {
        let (tag, rest) = get_varint(b)?;
        let (value, after) = get_varint(rest)?;
        b = match tag & 7 {
            0 if tag >> 3 == number => return Some(value),
            0 => after,
            1 => rest.get(8..)?,
            2 => after.get(usize::try_from(value).ok()?..)?,
            5 => rest.get(4..)?,
            _ => return None,
        };
    }
    None
}

/// Reads one length-prefixed message; None at EOF.
pub async fn read_message(s: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut head = vec![];
    loop {
        let mut byte = [0];
        if s.read(&mut byte).await? == 0 {
            return if head.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        head.push(byte[0]);
        if byte[0] < 0x80 || head.len() == 10 {
            break;
        }
    }
    let len = get_varint(&head).map_or(usize::MAX, |(v, _)| v as usize);
    if len > max {
        return Err(io::Error::other(format!("message of {len} bytes")));
    }
    let mut m = vec![0; len];
    s.read_exact(&mut m).await?;
    Ok(Some(m))
}

/// A FIND_NODE request, length prefix included.
pub fn find_node(key: &[u8]) -> Vec<u8> {
    let mut m = vec![0x08, FIND_NODE as u8, 0x12];
    put_varint(&mut m, key.len() as u64);
    m.extend_from_slice(key);
    let mut out = vec![];
    put_varint(&mut out, m.len() as u64);
    out.extend(m);
    out
}

pub fn multihash_of_ns(ns: &str) -> Vec<u8> {
    [&[0x12, 0x20], &Sha256::digest(ns)[..]].concat()
}

/// The multihash of a CIDv1 in base32 text, the only form that the tests use.
pub fn multihash_of_cid(text: &str) -> Result<Vec<u8>, Failure> {
    let bad = || Failure::new(format!("{text} is not a CIDv1 in base32"));
    let mut bytes = vec![];
    let (mut bits, mut have) = (0u32, 0);
    for c in text.strip_prefix('b').ok_or_else(bad)?.bytes() {
        let v = match c {
            b'a'..=b'z' => c - b'a',
            b'2'..=b'7' => c - b'2' + 26,
            _ => return Err(bad()),
        };
        bits = bits << 5 | u32::from(v);
        have += 5;
        if have >= 8 {
            have -= 8;
            bytes.push((bits >> have) as u8);
            bits &= (1 << have) - 1;
        }
    }
    let (version, rest) = get_varint(&bytes).ok_or_else(bad)?;
    let (_codec, multihash) = get_varint(rest).ok_or_else(bad)?;
    if version != 1 || multihash.len() < 2 {
        return Err(bad());
    }
    Ok(multihash.to_vec())
}
