//! Parquet files written byte by byte, with a footer and page headers that may be wrong.

/// A field of the schema; one without children is a column of bytes.
#[derive(Clone)]
pub struct Leaf {
    pub name: &'static str,
    pub repetition: i64,
    pub children: i64,
}

impl Leaf {
    /// A required text.
    pub fn text(name: &'static str) -> Self {
        Self { name, repetition: 0, children: 0 }
    }
}

/// The only page of every column, and its header.
pub struct Page {
    pub body: Vec<u8>,
    pub dictionary: Option<Vec<u8>>,
    /// The number of values in the header of the dictionary.
    pub dictionary_values: i64,
    pub codec: i64,
    pub encoding: i64,
    /// The number of values in its header.
    pub values: i64,
    /// The uncompressed size in its header, if not its own.
    pub size: Option<i64>,
}

impl Page {
    pub fn plain(body: Vec<u8>, values: i64) -> Self {
        Self { body, dictionary: None, dictionary_values: 1, codec: 0, encoding: 0, values, size: None }
    }

    fn dictionary_bytes(&self) -> Vec<u8> {
        let Some(dictionary) = &self.dictionary else { return Vec::new() };
        let head = [thrift::int(1, self.dictionary_values), thrift::int(2, 0)];
        [header(2, dictionary.len() as i64, dictionary.len(), 7, &head), dictionary.clone()].concat()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.dictionary_bytes();
        let head = [thrift::int(1, self.values), thrift::int(2, self.encoding), thrift::int(3, 3), thrift::int(4, 3)];
        bytes.extend(header(0, self.size.unwrap_or(self.body.len() as i64), self.body.len(), 5, &head));
        bytes.extend(&self.body);
        bytes
    }
}

/// A file of the given fields under one root, and of row groups that all have the same columns, each with the same page.
pub fn file(fields: &[Leaf], rows: i64, groups: usize, page: &Page) -> Vec<u8> {
    let mut bytes = b"PAR1".to_vec();
    let chunk = page.bytes();
    let leaves: Vec<_> = fields.iter().filter(|field| field.children == 0).collect();
    let starts: Vec<_> = leaves
        .iter()
        .map(|_| {
            let start = bytes.len() as i64;
            bytes.extend(&chunk);
            start
        })
        .collect();

    let roots = if fields.iter().any(|field| field.children > 0) { 1 } else { fields.len() as i64 };
    let mut schema = vec![thrift::fields(&[thrift::text(4, "schema"), thrift::int(5, roots)])];
    schema.extend(fields.iter().map(|field| {
        let kind = if field.children > 0 { thrift::int(5, field.children) } else { thrift::int(1, 6) };
        thrift::fields(&[kind, thrift::int(3, field.repetition), thrift::text(4, field.name)])
    }));
    let column = |name: &str, start: i64| {
        let mut metadata = vec![
            thrift::int(1, 6),
            thrift::ints(2, &[0, 3]),
            thrift::texts(3, &[name]),
            thrift::int(4, page.codec),
            thrift::long(5, page.values),
            thrift::long(6, page.size.unwrap_or(chunk.len() as i64)),
            thrift::long(7, chunk.len() as i64),
        ];
        let dictionary = page.dictionary.as_ref().map_or(0, |_| page.dictionary_bytes().len()) as i64;
        metadata.push(thrift::long(9, start + dictionary));
        metadata.extend((dictionary > 0).then(|| thrift::long(11, start)));
        thrift::fields(&[thrift::long(2, start), thrift::inner(3, &metadata)])
    };
    let columns = leaves.iter().zip(starts).map(|(field, start)| column(field.name, start)).collect();
    let group = thrift::fields(&[thrift::list(1, columns), thrift::long(2, 0), thrift::long(3, rows)]);
    let total = rows.saturating_mul(groups as i64);
    let footer = thrift::fields(&[
        thrift::int(1, 1),
        thrift::list(2, schema),
        thrift::long(3, total),
        thrift::list(4, vec![group; groups]),
    ]);
    bytes.extend(&footer);
    bytes.extend((footer.len() as u32).to_le_bytes());
    bytes.extend(b"PAR1");
    bytes
}

fn header(kind: i64, size: i64, compressed_size: usize, id: i64, head: &[Vec<u8>]) -> Vec<u8> {
    let sizes = [thrift::int(1, kind), thrift::int(2, size), thrift::int(3, compressed_size as i64)];
    thrift::fields(&[&sizes[..], &[thrift::inner(id, head)]].concat())
}

/// The Thrift compact protocol; every field is written with its full id.
pub mod thrift {
    pub fn fields(fields: &[Vec<u8>]) -> Vec<u8> {
        [fields.concat(), vec![0]].concat()
    }

    pub fn int(id: i64, value: i64) -> Vec<u8> {
        field(5, id, zigzag(value))
    }

    pub fn long(id: i64, value: i64) -> Vec<u8> {
        field(6, id, zigzag(value))
    }

    pub fn ints(id: i64, values: &[i64]) -> Vec<u8> {
        let items = values.iter().flat_map(|value| zigzag(*value)).collect();
        field(9, id, [vec![0xf5], varint(values.len() as u64), items].concat())
    }

    pub fn texts(id: i64, texts: &[&str]) -> Vec<u8> {
        let items = texts.iter().flat_map(|text| [varint(text.len() as u64), text.as_bytes().to_vec()].concat());
        field(9, id, [vec![0xf8], varint(texts.len() as u64), items.collect()].concat())
    }

    pub fn text(id: i64, text: &str) -> Vec<u8> {
        field(8, id, [varint(text.len() as u64), text.as_bytes().to_vec()].concat())
    }

    pub fn inner(id: i64, inner: &[Vec<u8>]) -> Vec<u8> {
        field(12, id, fields(inner))
    }

    pub fn list(id: i64, structs: Vec<Vec<u8>>) -> Vec<u8> {
        field(9, id, [vec![0xfc], varint(structs.len() as u64), structs.concat()].concat())
    }

    pub fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    fn field(kind: u8, id: i64, value: Vec<u8>) -> Vec<u8> {
        [vec![kind], zigzag(id), value].concat()
    }

    fn zigzag(value: i64) -> Vec<u8> {
        varint(((value << 1) ^ (value >> 63)).cast_unsigned())
    }
}
