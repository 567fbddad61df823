//! Rendering SVG to PNG, with a font of its own.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::fontdb::{Database, Source};
use resvg::usvg::{Options, Tree};

/// 85 mm at 600 dots per inch, 170 mm at 300.
pub(crate) const WIDTH: f32 = 2008.0;

const FAMILY: &str = "DejaVu Sans";

/// The fonts, which need no copy: they are in the program.
static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    for face in [dejavu::sans::regular, dejavu::sans::bold] {
        fonts.load_font_source(Source::Binary(Arc::new(face())));
    }
    fonts.set_sans_serif_family(FAMILY);
    Arc::new(fonts)
});

/// The tree of an SVG, its text laid out.
pub(crate) fn parse(svg: &str) -> Result<Tree, String> {
    let options = Options { fontdb: FONTS.clone(), font_family: FAMILY.into(), ..Options::default() };
    Tree::from_str(svg, &options).map_err(|error| error.to_string())
}

/// The bytes of a PNG of the usual width.
pub(crate) fn render(svg: &str) -> Result<Vec<u8>, String> {
    let tree = parse(svg)?;
    let scale = WIDTH / tree.size().width();
    let height = (tree.size().height() * scale).ceil();
    let mut pixels = Pixmap::new(WIDTH as u32, height as u32).ok_or("it has no area")?;
    // The picture may end within the last row of pixels.
    pixels.fill(Color::WHITE);
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| error.to_string())
}
