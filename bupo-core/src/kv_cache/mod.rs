//! The KV cache of rows that grow token by token, and attention over it.

mod device;
mod host;

use burn::tensor::{Tensor, TensorData, backend::Backend};

use crate::kernels::host::{HostView, is_host_f32};
use crate::kernels::{HeadNorms, RopeTable, rotated_heads, runs_on_gpu};
use crate::profile::{Part, timed};
use device::TensorKv;
use host::HostKv;

/// The keys and values of the layers that run. Rows can differ in length.
#[derive(Debug)]
pub struct KvCache<B: Backend> {
    depth: usize,
    room: CacheRoom,
    kind: Kind<B>,
    /// Tokens of each row so far: the position of its next one.
    positions: Vec<usize>,
    /// The rotations of all positions below a number of them, where the kernels of GPUs run.
    rotations: Option<(usize, RopeTable<B>)>,
}

#[derive(Debug)]
enum Kind<B: Backend> {
    Empty,
    /// By layer.
    Host(Vec<HostKv>),
    Tensors(TensorKv<B>),
}

/// The capacity of a cache.
#[derive(Debug, Clone, Copy)]
pub struct CacheRoom {
    /// Rows at a time.
    pub rows: usize,
    /// Tokens that are appended to a row at most.
    pub slots: usize,
}

/// The positions whose rotations are computed at least, on a GPU.
const FEW_POSITIONS: usize = 512;

impl<B: Backend> KvCache<B> {
    /// An empty cache for `depth` layers. Memory is allocated when rows are admitted.
    pub fn new(depth: usize, room: CacheRoom) -> Self {
        Self { depth, room, kind: Kind::Empty, positions: Vec::new(), rotations: None }
    }

    /// Appends rows: each `(i, len)` of `sources` becomes a row of the first `len` tokens of row `i` of the keys and
    /// values of each layer, `[prompts, kv_heads, seq, head_dim]`.
    pub fn admit(&mut self, layers: &[(Tensor<B, 4>, Tensor<B, 4>)], sources: &[(usize, usize)]) {
        let Some((keys, _)) = layers.first() else { return };
        let [_, kv_heads, seq, head_dim] = keys.dims();
        let lengths = sources.iter().map(|(_, len)| *len);
        match &mut self.kind {
            Kind::Tensors(kv) => kv.admit(layers, sources, &self.positions),
            Kind::Empty if !is_host_f32(keys) => self.kind = Kind::Tensors(TensorKv::new(layers, sources)),
            kind => {
                if let Kind::Empty = kind {
                    *kind = Kind::Host((0..self.depth).map(|_| HostKv::new(self.room, kv_heads, head_dim)).collect());
                }
                let Kind::Host(kv) = kind else { unreachable!("it was made just now") };
                for (kv, (keys, values)) in kv.iter_mut().zip(layers) {
                    let (keys, values) = (HostView::of(keys.clone()), HostView::of(values.clone()));
                    kv.admit(keys.values(), values.values(), seq, sources);
                }
            }
        }
        self.positions.extend(lengths);
    }

    /// Keeps the given rows only, in the given order.
    pub fn keep(&mut self, rows: &[usize]) {
        match &mut self.kind {
            Kind::Empty => {}
            Kind::Host(layers) => layers.iter_mut().for_each(|kv| kv.keep(rows)),
            Kind::Tensors(_) if rows.is_empty() => self.kind = Kind::Empty,
            Kind::Tensors(kv) => kv.keep(rows),
        }
        self.positions = rows.iter().map(|row| self.positions[*row]).collect();
    }

    /// The position of each row's next token.
    pub fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// Whether rows are left out without moving the others.
    pub fn keeps_in_place(&self) -> bool {
        !matches!(self.kind, Kind::Tensors(_))
    }

    /// The rotations of each row's next token. `make` computes those of some positions, shared by all rows or of each row: the
    /// number of positions shared is its second argument, 1 if they are of rows. A table of all positions stays on a GPU.
    pub fn rotation(&mut self, make: impl FnOnce(&[usize], usize) -> RopeTable<B>) -> RopeTable<B> {
        if !runs_on_gpu::<B>() {
            return make(&self.positions, 1);
        }
        let longest = self.positions.iter().copied().max().unwrap_or(0);
        match &self.rotations {
            Some((count, table)) if longest < *count => table.clone(),
            _ => {
                let count = (2 * longest).max(FEW_POSITIONS);
                let table = make(&(0..count).collect::<Vec<_>>(), count);
                self.rotations = Some((count, table.clone()));
                table
            }
        }
    }

    /// Appends the keys and values of each row's next token to layer `layer` (from 1) and returns the attention of its
    /// queries over all tokens of the row, `[rows, heads * head_dim]`.
    ///
    /// `q` is `[rows, heads * head_dim]` before norm and rotation, keys and values are `[rows, kv_heads * head_dim]`; where
    /// [`runs_on_gpu`], `q` can have the three of a row one after another. `table` is that of [`Self::rotation`]. Call it
    /// once for every layer, then [`Self::advance`].
    pub fn attend(
        &mut self,
        layer: usize,
        q: Tensor<B, 2>,
        kv: Option<[Tensor<B, 2>; 2]>,
        norms: Option<&HeadNorms<B>>,
        table: &RopeTable<B>,
        scale: f64,
    ) -> Tensor<B, 2> {
        let (rows, device) = (q.dims()[0], q.device());
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        if let (Kind::Tensors(cache), Some(table)) = (&mut self.kind, table.packed()) {
            let norms = norms.map(HeadNorms::of_gpu);
            let attend = || cache.attend_heads(layer, q, kv, norms.as_ref(), table, &self.positions, scale);
            return timed::<B, _>(Part::Cache, &device, attend);
        }
        let Some([k, v]) = kv else { panic!("keys and values are apart but on a GPU") };
        let values = v.dims()[1] / table.head_dim();
        let v = v.reshape([rows, 1, values, table.head_dim()]).swap_dims(1, 2);
        let (q, k) = timed::<B, _>(Part::Norms, &device, || rotated_heads(q, k, norms, table, rows));
        timed::<B, _>(Part::Cache, &device, || self.attend_rotated(layer, q, k, v, scale))
    }

    /// [`Self::attend`] of heads after norm and rotation: `q` `[rows, heads, 1, head_dim]`, `k` and `v`
    /// `[rows, kv_heads, 1, head_dim]`.
    pub(crate) fn attend_rotated(
        &mut self,
        layer: usize,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        scale: f64,
    ) -> Tensor<B, 2> {
        let ([rows, heads, _, head_dim], device) = (q.dims(), q.device());
        match &mut self.kind {
            Kind::Empty => panic!("rows are admitted before they are read"),
            Kind::Host(layers) => {
                let kv = &mut layers[layer - 1];
                let (q, k, v) = (HostView::of(q), HostView::of(k), HostView::of(v));
                kv.write(k.values(), v.values(), &self.positions);
                let mixed = kv.attend(q.values(), heads, &self.positions, scale as f32);
                Tensor::from_data(TensorData::new(mixed, [rows, heads * head_dim]), &device)
            }
            Kind::Tensors(kv) => kv.attend(layer, q, k, v, &self.positions, scale),
        }
    }

    /// Moves on to the next token, after all layers have run.
    pub fn advance(&mut self) {
        self.positions.iter_mut().for_each(|position| *position += 1);
        if let Kind::Tensors(kv) = &mut self.kind {
            kv.advance();
        }
    }
}
