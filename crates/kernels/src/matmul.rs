//! Matrix products over strided views, and the four products of a linear layer.
//!
//! A product is cut into tiles of `C` whose sizes depend on the shape alone; each tile is computed by one thread in a
//! fixed order, so the result is the same bytes at any thread count. Threads come from the current `rayon` pool.

use crate::parallel::map_tasks;
use crate::real::Real;
use crate::simd::{dot, vectorised};

/// What happens to the values already in an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// They are replaced.
    Set,
    /// The result is added to them.
    Add,
}

/// A read-only matrix over a slice: element `(i, j)` is `data[i·row_stride + j·col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, R> {
    data: &'a [R],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, R> MatRef<'a, R> {
    /// A contiguous row-major matrix.
    ///
    /// # Panics
    /// When `data` is shorter than `rows · cols`.
    pub fn new(data: &'a [R], rows: usize, cols: usize) -> Self {
        Self::with_stride(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows begin `row_stride` elements apart.
    ///
    /// # Panics
    /// When an element would lie outside `data`.
    pub fn with_stride(data: &'a [R], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, row_stride), "{rows}x{cols} matrix outside its slice");
        MatRef { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        MatRef { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between vertically adjacent elements.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// Distance between horizontally adjacent elements.
    pub fn col_stride(&self) -> usize {
        self.col_stride
    }

    /// The elements from `(0, 0)` on.
    pub(crate) fn data(&self) -> &'a [R] {
        self.data
    }

    /// Row `row` of a matrix whose columns are adjacent.
    pub(crate) fn row(&self, row: usize) -> &'a [R] {
        assert!(row < self.rows && self.col_stride == 1, "not a row");
        &self.data[row * self.row_stride..][..self.cols]
    }

    /// The `rows` rows from `row` and the `cols` columns from `col`.
    ///
    /// # Panics
    /// When the block is not inside the matrix.
    pub fn block(self, row: usize, col: usize, rows: usize, cols: usize) -> Self {
        assert!(row + rows <= self.rows && col + cols <= self.cols, "block outside its matrix");
        let start = (row * self.row_stride + col * self.col_stride).min(self.data.len());
        MatRef { data: &self.data[start..], rows, cols, ..self }
    }
}

/// A writable row-major matrix over a slice: element `(i, j)` is `data[i·row_stride + j]`.
#[derive(Debug)]
pub struct MatMut<'a, R> {
    data: *mut R,
    rows: usize,
    cols: usize,
    row_stride: usize,
    lifetime: std::marker::PhantomData<&'a mut [R]>,
}

// SAFETY: a `MatMut` is an exclusive borrow of its elements, as `&mut [R]` is.
unsafe impl<R: Send> Send for MatMut<'_, R> {}

impl<'a, R> MatMut<'a, R> {
    /// A contiguous row-major matrix.
    ///
    /// # Panics
    /// When `data` is shorter than `rows · cols`.
    pub fn new(data: &'a mut [R], rows: usize, cols: usize) -> Self {
        Self::with_stride(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows begin `row_stride` elements apart.
    ///
    /// # Panics
    /// When an element would lie outside `data`, or rows overlap.
    pub fn with_stride(data: &'a mut [R], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, row_stride), "{rows}x{cols} matrix outside its slice");
        assert!(rows < 2 || row_stride >= cols, "rows of a writable matrix overlap");
        MatMut { data: data.as_mut_ptr(), rows, cols, row_stride, lifetime: std::marker::PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between vertically adjacent elements.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// Row `row`.
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [R] {
        assert!(row < self.rows, "row outside its matrix");
        // SAFETY: the row lies inside the slice this matrix borrows exclusively (checked by `with_stride`).
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.row_stride), self.cols) }
    }

    /// Address of element `(0, 0)`.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut R {
        self.data
    }

    /// The `rows × cols` block whose first element is `(row, col)`, borrowed.
    pub(crate) fn block_mut(&mut self, row: usize, col: usize, rows: usize, cols: usize) -> MatMut<'_, R> {
        assert!(row + rows <= self.rows && col + cols <= self.cols, "block outside its matrix");
        let data = self.data.wrapping_add(row * self.row_stride + col);
        MatMut { data, rows, cols, row_stride: self.row_stride, lifetime: std::marker::PhantomData }
    }

    /// Cuts the matrix into blocks of at most `rows × cols`, each with the position of its first element.
    pub(crate) fn into_blocks(self, rows: usize, cols: usize) -> Vec<(usize, usize, MatMut<'a, R>)> {
        let mut blocks = Vec::new();
        for row in (0..self.rows).step_by(rows) {
            for col in (0..self.cols).step_by(cols) {
                // SAFETY: inside the matrix; blocks of one cut do not overlap, and `self` is consumed.
                let data = unsafe { self.data.add(row * self.row_stride + col) };
                let (rows, cols) = (rows.min(self.rows - row), cols.min(self.cols - col));
                let block = MatMut { data, rows, cols, row_stride: self.row_stride, lifetime: self.lifetime };
                blocks.push((row, col, block));
            }
        }
        blocks
    }
}

/// Whether the last element of a `rows × cols` matrix lies inside `len` elements.
fn fits(len: usize, rows: usize, cols: usize, row_stride: usize) -> bool {
    if rows == 0 || cols == 0 {
        return true;
    }
    (rows - 1).checked_mul(row_stride).and_then(|start| start.checked_add(cols)).is_some_and(|end| end <= len)
}

/// `C = alpha·A·B`, or `C += alpha·A·B`, for `A` of `[m, k]`, `B` of `[k, n]`, `C` of `[m, n]`.
///
/// # Panics
/// When the shapes do not agree.
pub fn matmul<R: Real>(alpha: R, a: MatRef<'_, R>, b: MatRef<'_, R>, c: MatMut<'_, R>, write: Write) {
    assert!(a.cols == b.rows && c.rows == a.rows && c.cols == b.cols, "matrix product of unlike shapes");
    if a.rows <= FEW_ROWS && a.col_stride == 1 && b.row_stride == 1 {
        few_rows(alpha, a, b, c, write);
    } else {
        library_product(alpha, a, b, c, write);
    }
}

/// Up to so many rows, rearranging `B` costs more than it gains.
const FEW_ROWS: usize = 6;

/// A product of few rows, as dot products: each column of `B` is read once, where it lies.
fn few_rows<R: Real>(alpha: R, a: MatRef<'_, R>, b: MatRef<'_, R>, c: MatMut<'_, R>, write: Write) {
    map_tasks(c.into_blocks(usize::MAX, 256), |(_, first, c)| {
        let b = b.block(0, first, b.rows(), c.cols());
        dots_here(alpha, a, b, c, write);
    });
}

vectorised! {
    fn dots_here<R: Real>(alpha: R, a: MatRef<'_, R>, b: MatRef<'_, R>, c: MatMut<'_, R>, write: Write) {
        let mut c = c;
        for col in 0..b.cols() {
            let from = &b.data()[(col * b.col_stride()).min(b.data().len())..][..b.rows()];
            for row in 0..a.rows() {
                let sum = alpha * dot(&a.data()[row * a.row_stride()..][..b.rows()], from);
                let to = &mut c.row_mut(row)[col];
                *to = if write == Write::Add { *to + sum } else { sum };
            }
        }
    }
}

/// Rows and columns of a tile of `C` given to the `gemm` crate: fixed, so that sums never depend on the threads.
const LIBRARY_TILE: (usize, usize) = (256, 512);

/// The product by the `gemm` crate, tile by tile.
fn library_product<R: Real>(alpha: R, a: MatRef<'_, R>, b: MatRef<'_, R>, c: MatMut<'_, R>, write: Write) {
    map_tasks(c.into_blocks(LIBRARY_TILE.0, LIBRARY_TILE.1), |(row, col, mut block)| {
        let a = a.block(row, 0, block.rows, a.cols);
        let b = b.block(0, col, b.rows, block.cols);
        library_gemm(alpha, a, b, &mut block, write);
    });
}

/// One tile by the `gemm` crate, on the calling thread.
pub(crate) fn library_gemm<R: Real>(alpha: R, a: MatRef<'_, R>, b: MatRef<'_, R>, c: &mut MatMut<'_, R>, write: Write) {
    if c.rows == 0 || c.cols == 0 {
        return;
    }
    let (m, n, k) = (c.rows, c.cols, a.cols);
    // SAFETY: the views were checked to lie inside their slices, shapes agree, and C aliases neither A nor B.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.data,
            1,
            c.row_stride as isize,
            write == Write::Add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            R::ONE,
            alpha,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// A linear layer: `y = x·Wᵀ + bias`, with `x` `[tokens, inputs]`, `w` `[outputs, inputs]`, `y` `[tokens, outputs]`.
///
/// # Panics
/// When the lengths do not agree.
pub fn linear<R: Real>(x: &[R], w: &[R], bias: Option<&[R]>, y: &mut [R], inputs: usize, outputs: usize) {
    let tokens = tokens(x.len(), inputs, y.len(), outputs);
    let write = fill_bias(bias, y, outputs);
    let (x, w) = (MatRef::new(x, tokens, inputs), MatRef::new(w, outputs, inputs));
    matmul(R::ONE, x, w.t(), MatMut::new(y, tokens, outputs), write);
}

/// Writes the bias into every row of `y`, and says whether the product is to be added to it.
pub(crate) fn fill_bias<R: Real>(bias: Option<&[R]>, y: &mut [R], outputs: usize) -> Write {
    let Some(bias) = bias else { return Write::Set };
    assert_eq!(bias.len(), outputs, "bias length");
    y.chunks_exact_mut(outputs.max(1)).for_each(|row| row.copy_from_slice(bias));
    Write::Add
}

/// The gradient of a linear layer's input: `dx (+)= dy·W`.
///
/// # Panics
/// When the lengths do not agree.
pub fn linear_grad_input<R: Real>(dy: &[R], w: &[R], dx: &mut [R], inputs: usize, outputs: usize, write: Write) {
    let tokens = tokens(dx.len(), inputs, dy.len(), outputs);
    let (dy, w) = (MatRef::new(dy, tokens, outputs), MatRef::new(w, outputs, inputs));
    matmul(R::ONE, dy, w, MatMut::new(dx, tokens, inputs), write);
}

/// The gradient of a linear layer's weight: `dW (+)= dyᵀ·x`.
///
/// # Panics
/// When the lengths do not agree.
pub fn linear_grad_weight<R: Real>(dy: &[R], x: &[R], dw: &mut [R], inputs: usize, outputs: usize, write: Write) {
    let tokens = tokens(x.len(), inputs, dy.len(), outputs);
    let (dy, x) = (MatRef::new(dy, tokens, outputs), MatRef::new(x, tokens, inputs));
    matmul(R::ONE, dy.t(), x, MatMut::new(dw, outputs, inputs), write);
}

vectorised! {
    /// The gradient of a linear layer's bias: `db += Σ over tokens of dy`.
    ///
    /// # Panics
    /// When `dy` is not whole rows of `db`'s length.
    pub fn linear_grad_bias<R: Real>(dy: &[R], db: &mut [R]) {
        assert!(db.is_empty() || dy.len().is_multiple_of(db.len()), "dy is not whole rows");
        for row in dy.chunks_exact(db.len().max(1)) {
            for (sum, &value) in db.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

/// The number of rows that `x` and `y` both have.
pub(crate) fn tokens(x_len: usize, inputs: usize, y_len: usize, outputs: usize) -> usize {
    let tokens = x_len.checked_div(inputs).unwrap_or(0);
    assert!(tokens * inputs == x_len && tokens * outputs == y_len, "linear layer of unlike lengths");
    tokens
}
