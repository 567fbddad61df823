//! Inserts the filter of [`bounds`](super::bounds) into a template's syntax tree: minijinja cannot call it on every value
//! by itself.
//!
//! A value passes the filter before it is stored. A variable was filtered when it was set, so it is filtered again only
//! where an operation on it consumes no fuel otherwise.

use minijinja::machinery::ast::{self, BinOpKind, CallArg, CompareOpKind, Expr, Spanned, Stmt};

/// The name of the filter. It is not an identifier, so no template can use it.
pub(super) const BOUND: &str = "#bound";

/// Filters whose time does not depend on the size of the value.
const CHEAP_FILTERS: [&str; 6] = ["count", "d", "default", "first", "last", "length"];

/// Tests whose time does not depend on the size of the value.
const CHEAP_TESTS: [&str; 16] = [
    "boolean",
    "callable",
    "defined",
    "false",
    "float",
    "integer",
    "iterable",
    "mapping",
    "none",
    "number",
    "sameas",
    "safe",
    "sequence",
    "string",
    "true",
    "undefined",
];

/// The syntax tree with the filter, or the construct that chat templates may not use.
pub(super) fn template<'a>(tree: &Stmt<'a>) -> Result<Stmt<'a>, &'static str> {
    stmt(tree)
}

fn body<'a>(stmts: &[Stmt<'a>]) -> Result<Vec<Stmt<'a>>, &'static str> {
    stmts.iter().map(stmt).collect()
}

fn stmt<'a>(node: &Stmt<'a>) -> Result<Stmt<'a>, &'static str> {
    Ok(match node {
        Stmt::Template(s) => Stmt::Template(with(s, ast::Template { children: body(&s.children)? })),
        Stmt::EmitExpr(s) => Stmt::EmitExpr(with(s, ast::EmitExpr { expr: stored(&s.expr) })),
        Stmt::EmitRaw(s) => Stmt::EmitRaw(with(s, ast::EmitRaw { raw: s.raw })),
        Stmt::ForLoop(s) => Stmt::ForLoop(with(
            s,
            ast::ForLoop {
                target: inner(&s.target),
                iter: stored(&s.iter),
                filter_expr: s.filter_expr.as_ref().map(inner),
                recursive: s.recursive,
                body: body(&s.body)?,
                else_body: body(&s.else_body)?,
            },
        )),
        Stmt::IfCond(s) => Stmt::IfCond(with(
            s,
            ast::IfCond { expr: stored(&s.expr), true_body: body(&s.true_body)?, false_body: body(&s.false_body)? },
        )),
        Stmt::WithBlock(s) => {
            let assignments = s.assignments.iter().map(|(target, value)| (inner(target), stored(value))).collect();
            Stmt::WithBlock(with(s, ast::WithBlock { assignments, body: body(&s.body)? }))
        }
        Stmt::Set(s) => {
            let expr = match (&s.target, &s.expr) {
                // A namespace may be assigned to a variable only.
                (Expr::Var(_), Expr::Call(c)) if matches!(&c.expr, Expr::Var(f) if f.id == "namespace") => {
                    inner(&s.expr)
                }
                (Expr::Var(_), _) => stored(&s.expr),
                _ => used(&s.expr),
            };
            Stmt::Set(with(s, ast::Set { target: inner(&s.target), expr }))
        }
        Stmt::SetBlock(s) => {
            let filter = s.filter.as_ref().map(inner);
            Stmt::SetBlock(with(s, ast::SetBlock { target: inner(&s.target), filter, body: body(&s.body)? }))
        }
        Stmt::FilterBlock(s) => Stmt::FilterBlock(with(
            s,
            ast::FilterBlock { filter: inner(&s.filter), filter_span: s.filter_span, body: body(&s.body)? },
        )),
        Stmt::Macro(s) => Stmt::Macro(macro_decl(s)?),
        Stmt::CallBlock(s) => Stmt::CallBlock(with(
            s,
            ast::CallBlock {
                call: call(&s.call),
                call_expr_span: s.call_expr_span,
                macro_decl: macro_decl(&s.macro_decl)?,
            },
        )),
        Stmt::Continue(s) => Stmt::Continue(with(s, ast::Continue)),
        Stmt::Break(s) => Stmt::Break(with(s, ast::Break)),
        Stmt::Do(s) => Stmt::Do(with(s, ast::Do { call: call(&s.call) })),
        Stmt::AutoEscape(_) => return Err("it sets `autoescape`, but prompts are not escaped"),
    })
}

fn macro_decl<'a>(node: &Spanned<ast::Macro<'a>>) -> Result<Spanned<ast::Macro<'a>>, &'static str> {
    let args = node.args.iter().map(inner).collect();
    let defaults = node.defaults.iter().map(stored).collect();
    Ok(with(node, ast::Macro { name: node.name, args, defaults, body: body(&node.body)? }))
}

/// An expression whose value is stored: it is filtered, unless it is a variable.
fn stored<'a>(node: &Expr<'a>) -> Expr<'a> {
    match node {
        Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_) => inner(node),
        _ => used(node),
    }
}

/// An expression on whose value an operation runs: it is filtered, which consumes fuel.
fn used<'a>(node: &Expr<'a>) -> Expr<'a> {
    match node {
        Expr::Const(_) | Expr::Compare(_) | Expr::Test(_) => inner(node),
        _ => {
            let filter = ast::Filter { name: BOUND, expr: Some(inner(node)), args: Vec::new() };
            Expr::Filter(Spanned::new(filter, node.span()))
        }
    }
}

/// The expression itself, with its parts filtered.
fn inner<'a>(node: &Expr<'a>) -> Expr<'a> {
    match node {
        Expr::Var(s) => Expr::Var(with(s, ast::Var { id: s.id })),
        Expr::Const(s) => Expr::Const(with(s, ast::Const { value: s.value.clone() })),
        Expr::Slice(s) => {
            let part = |part: &Option<Expr<'a>>| part.as_ref().map(inner);
            let (start, stop, step) = (part(&s.start), part(&s.stop), part(&s.step));
            Expr::Slice(with(s, ast::Slice { expr: stored(&s.expr), start, stop, step }))
        }
        Expr::UnaryOp(s) => {
            let negates = matches!(s.op, ast::UnaryOpKind::Neg);
            let op = if negates { ast::UnaryOpKind::Neg } else { ast::UnaryOpKind::Not };
            Expr::UnaryOp(with(s, ast::UnaryOp { op, expr: stored(&s.expr) }))
        }
        Expr::BinOp(s) => Expr::BinOp(with(s, bin_op(s))),
        Expr::Compare(s) => Expr::Compare(with(s, compare(s))),
        Expr::IfExpr(s) => Expr::IfExpr(with(
            s,
            ast::IfExpr {
                test_expr: stored(&s.test_expr),
                true_expr: inner(&s.true_expr),
                false_expr: s.false_expr.as_ref().map(inner),
            },
        )),
        Expr::Filter(s) => {
            let operand = if CHEAP_FILTERS.contains(&s.name) { stored } else { used };
            let filter = ast::Filter { name: s.name, expr: s.expr.as_ref().map(operand), args: call_args(&s.args) };
            Expr::Filter(with(s, filter))
        }
        Expr::Test(s) => {
            let operand = if CHEAP_TESTS.contains(&s.name) { stored } else { used };
            Expr::Test(with(s, ast::Test { name: s.name, expr: operand(&s.expr), args: call_args(&s.args) }))
        }
        Expr::GetAttr(s) => Expr::GetAttr(with(s, ast::GetAttr { expr: stored(&s.expr), name: s.name })),
        Expr::GetItem(s) => {
            let get = ast::GetItem { expr: stored(&s.expr), subscript_expr: used(&s.subscript_expr) };
            Expr::GetItem(with(s, get))
        }
        Expr::Call(s) => Expr::Call(call(s)),
        Expr::List(s) => Expr::List(with(s, ast::List { items: s.items.iter().map(inner).collect() })),
        Expr::Tuple(s) => Expr::Tuple(with(s, ast::Tuple { items: s.items.iter().map(inner).collect() })),
        Expr::Map(s) => {
            let (keys, values) = (s.keys.iter().map(used).collect(), s.values.iter().map(inner).collect());
            Expr::Map(with(s, ast::Map { keys, values }))
        }
    }
}

fn bin_op<'a>(node: &ast::BinOp<'a>) -> ast::BinOp<'a> {
    let with_const = is_const(&node.left) || is_const(&node.right);
    let operand = |part: &Expr<'a>| match node.op {
        BinOpKind::ScAnd | BinOpKind::ScOr => inner(part),
        // The engine consumes fuel for the texts of these, and the value of the whole chain is filtered.
        BinOpKind::Add | BinOpKind::Concat => operand_of_chain(part),
        BinOpKind::Eq | BinOpKind::Ne if with_const => stored(part),
        _ => used(part),
    };
    ast::BinOp { op: node.op, left: operand(&node.left), right: operand(&node.right) }
}

/// An operand in a chain of additions.
fn operand_of_chain<'a>(node: &Expr<'a>) -> Expr<'a> {
    match node {
        Expr::BinOp(s) if matches!(s.op, BinOpKind::Add | BinOpKind::Concat) => inner(node),
        _ => stored(node),
    }
}

fn compare<'a>(node: &ast::Compare<'a>) -> ast::Compare<'a> {
    let with_const = is_const(&node.expr) || node.ops.iter().any(|op| is_const(&op.expr));
    let one_equality = matches!(node.ops.as_slice(), [op] if matches!(op.op, CompareOpKind::Eq | CompareOpKind::Ne));
    let operand = if with_const && one_equality { stored } else { used };
    let ops = node.ops.iter().map(|op| ast::CompareOp { op: op.op, expr: operand(&op.expr) }).collect();
    ast::Compare { expr: operand(&node.expr), ops }
}

fn call<'a>(node: &Spanned<ast::Call<'a>>) -> Spanned<ast::Call<'a>> {
    let expr = match &node.expr {
        Expr::GetAttr(method) => {
            // A method uses its value; the methods of `loop` are recognized by their names.
            let receiver = if matches!(method.name, "changed" | "cycle") { stored } else { used };
            Expr::GetAttr(with(method, ast::GetAttr { expr: receiver(&method.expr), name: method.name }))
        }
        expr => inner(expr),
    };
    with(node, ast::Call { expr, args: call_args(&node.args) })
}

fn call_args<'a>(args: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    let arg = |arg: &CallArg<'a>| match arg {
        CallArg::Pos(expr) => CallArg::Pos(used(expr)),
        CallArg::Kwarg(name, expr) => CallArg::Kwarg(name, used(expr)),
        CallArg::PosSplat(expr) => CallArg::PosSplat(used(expr)),
        CallArg::KwargSplat(expr) => CallArg::KwargSplat(used(expr)),
    };
    args.iter().map(arg).collect()
}

fn is_const(node: &Expr<'_>) -> bool {
    matches!(node, Expr::Const(_))
}

fn with<T, U>(old: &Spanned<T>, node: U) -> Spanned<U> {
    Spanned::new(node, old.span())
}
