// The CPU's order of rasterizing: points are projected once and kept, as hits, by bands of rows. One thread owns a
// band, so nothing is atomic and the sums have one order, whatever the number of threads.
//
// Bins are (band, class). Class 0 holds the hits that are drawn at all L levels, class L - 1 those drawn at level 0
// only; classes L to 2 L - 1 hold the ghosts likewise. hits are sorted by chunk, within a chunk by bin, within a bin by
// rising point. offsets[b][bin][chunk] is where a bin starts, offsets[b][bin + 1][chunk] where it ends. band_rows is a
// multiple of 2^(L-1).
#pragma once
#include "arguments.h"
#include "pyramid.h"

struct Hit {
    int point;
    unsigned short x, y;
    real z;
};
static const int RUN = 256;          // points projected at a time
static const int CHUNK_RUNS = 512;   // runs of a chunk, at most
static const int CHUNK_HITS = 8192;  // points of a chunk, at most

struct Run {
    int64 first;
    int count;
};
struct ChunkRange {
    int64 run_first, run_last, base;  // base: where its hits start
    int count;
};

// What one thread projects at a time: short runs are joined until RUN points are there.
struct PointBatch {
    real u[RUN], v[RUN], z[RUN], radius_px[RUN], field[RUN], facing_away[RUN], finite_check[RUN];
    int visible[RUN], x[RUN], y[RUN], levels[RUN], point[RUN];
    int count;
};

// Where the points come from.
struct PointSource {
    virtual ~PointSource() {}
    // Asks for the memory of a run that is read next.
    virtual void prefetch_run(const Run& run) const = 0;
    // Writes the points of a run behind those of the batch.
    virtual void read_run(int64 view, const Run& run, PointBatch& batch) const = 0;
    // Finds which points of the batch are visible.
    virtual void test_visibility(int64 view, PointBatch& batch) const = 0;
};

// Points that are already projected, for rasterize.
struct ProjectedPoints : PointSource {
    const ProjectedArguments& projected;
    const int64 points;

    ProjectedPoints(const ProjectedArguments& projected, int64 points) : projected(projected), points(points) {}
    void prefetch_run(const Run&) const override {}
    void read_run(int64 view, const Run& run, PointBatch& batch) const override {
        const int64 first = view * points + run.first;
        const int at = batch.count;
        for (int i = 0; i < run.count; ++i) {
            batch.u[at + i] = projected.uv[2 * (first + i)], batch.v[at + i] = projected.uv[2 * (first + i) + 1];
            batch.z[at + i] = projected.z[first + i], batch.radius_px[at + i] = projected.radius_px[first + i];
            batch.visible[at + i] = projected.visible[first + i];
        }
    }
    void test_visibility(int64, PointBatch&) const override {}
};

// Finds the pixels of a batch's points, and at how many levels each is drawn: 0 where not at all.
static void find_pixels(const PyramidArguments& pyramid, PointBatch& batch) {
    const real threshold = (real)pyramid.radius_threshold;
    for (int i = 0; i < batch.count; ++i) {
        batch.x[i] = batch.visible[i] ? (int)batch.u[i] : 0;
        batch.y[i] = batch.visible[i] ? (int)batch.v[i] : 0;
        batch.levels[i] = 0;
    }
    real scale = 1;
    for (int level = 0; level < pyramid.levels; ++level, scale *= (real)0.5)
        for (int i = 0; i < batch.count; ++i)
            batch.levels[i] += batch.radius_px[i] * scale >= threshold ? batch.visible[i] : 0;
}

// Cuts the visited points of a view into runs and chunks; the first chunk's hits start at `base`.
static void plan_chunks(const BlockArguments& blocks, int64 view, int64 base, std::vector<Run>& runs,
                        std::vector<ChunkRange>& chunks) {
    runs.clear(), chunks.clear();
    ChunkRange chunk = {0, 0, base, 0};
    for (int64 k = 0; k < blocks.blocks; ++k) {
        const int64 first = k * blocks.block_size;
        const int size = (int)std::min<int64>(blocks.block_size, blocks.points - first);
        const int visit = blocks.visit ? blocks.visit[view * blocks.blocks + k] : size;
        for (int start = 0; start < visit; start += RUN) {
            const int count = std::min(RUN, visit - start);
            if (chunk.count + count > CHUNK_HITS || chunk.run_last - chunk.run_first == CHUNK_RUNS) {
                chunks.push_back(chunk);
                chunk = {chunk.run_last, chunk.run_last, chunk.base + chunk.count, 0};
            }
            runs.push_back({first + start, count});
            ++chunk.run_last, chunk.count += count;
        }
    }
    if (chunk.count) chunks.push_back(chunk);
}

static int count_bands(const BandArguments& args) {
    return (int)((args.pyramid.height + args.hits.band_rows - 1) / args.hits.band_rows);
}
static int count_bins(const BandArguments& args) { return count_bands(args) * (int)(2 * args.pyramid.levels); }

// Room for the hits of one chunk; every thread has its own.
struct ChunkScratch {
    Hit hits[CHUNK_HITS + 1];
    unsigned short bins[CHUNK_HITS + 1];
    PointBatch batch;
};

// Keeps the points of the batch that are drawn or ghosts, and returns the new number of hits. Each is written whether
// it is kept or not: a branch here would be mispredicted half of the time.
static int keep_hits(const BandArguments& args, int64 view, ChunkScratch& scratch, int count) {
    const PointBatch& batch = scratch.batch;
    const int shift = __builtin_ctz((unsigned)args.hits.band_rows), levels = (int)args.pyramid.levels;
    const byte* ghosts = args.pyramid.ghosts ? args.pyramid.ghosts + view * args.blocks.points : nullptr;
    for (int i = 0; i < batch.count; ++i) {
        const int kind = levels - batch.levels[i] + (ghosts && ghosts[batch.point[i]] ? levels : 0);
        scratch.hits[count] = {batch.point[i], (unsigned short)batch.x[i], (unsigned short)batch.y[i], batch.z[i]};
        scratch.bins[count] = (unsigned short)((batch.y[i] >> shift) * 2 * levels + kind);
        count += batch.levels[i] > 0;
    }
    return count;
}

// Reads the points of a chunk; returns how many hits there are.
static int find_hits(const BandArguments& args, const PointSource& source, int64 view, const Run* runs,
                     const ChunkRange& chunk, ChunkScratch& scratch) {
    PointBatch& batch = scratch.batch;
    batch.count = 0;
    int count = 0;
    for (int64 r = chunk.run_first; r < chunk.run_last; ++r) {
        const Run& run = runs[r];
        const bool last = r + 1 == chunk.run_last;
        if (!last) source.prefetch_run(runs[r + 1]);
        source.read_run(view, run, batch);
        for (int i = 0; i < run.count; ++i) batch.point[batch.count + i] = (int)(run.first + i);
        batch.count += run.count;
        if (!last && batch.count + runs[r + 1].count <= RUN) continue;
        source.test_visibility(view, batch);
        find_pixels(args.pyramid, batch);
        count = keep_hits(args, view, scratch, count);
        batch.count = 0;
    }
    return count;
}

// Sorts the hits of a chunk by bin into args.hits.
static void store_hits(const BandArguments& args, int64 view, const ChunkRange& chunk, int64 index,
                       const ChunkScratch& scratch, int count) {
    const int bins = count_bins(args);
    std::vector<int> start(bins + 1, 0);
    for (int i = 0; i < count; ++i) ++start[scratch.bins[i] + 1];
    for (int b = 0; b < bins; ++b) start[b + 1] += start[b];
    int64* offsets = args.hits.offsets + view * (bins + 1) * args.hits.chunks + index;
    for (int b = 0; b <= bins; ++b) offsets[b * args.hits.chunks] = chunk.base + start[b];
    Hit* out = (Hit*)args.hits.hits + chunk.base;
    for (int i = 0; i < count; ++i) out[start[scratch.bins[i]]++] = scratch.hits[i];
    if (count < chunk.count) std::memset((void*)(out + count), 0, (chunk.count - count) * sizeof(Hit));
}

// Fills hits and offsets of all views; offsets must hold zeros.
static void bin_points(const BandArguments& args, const PointSource& source, int threads) {
    std::vector<std::unique_ptr<ChunkScratch>> scratch(std::max(threads, 1));
    std::vector<Run> runs;
    std::vector<ChunkRange> chunks;
    int64 base = 0;
    for (int64 view = 0; view < args.pyramid.views; ++view) {
        plan_chunks(args.blocks, view, base, runs, chunks);
        if ((int64)chunks.size() > args.hits.chunks)
            throw KernelError{"the points need more chunks of hits than given"};
        parallel_for((int64)chunks.size(), threads, [&](int64 i, int worker) {
            if (!scratch[worker]) scratch[worker].reset(new ChunkScratch);
            const int count = find_hits(args, source, view, runs.data(), chunks[i], *scratch[worker]);
            store_hits(args, view, chunks[i], i, *scratch[worker], count);
        });
        if (!chunks.empty()) base = chunks.back().base + chunks.back().count;
    }
}

// The rows that a band covers at one level, in scratch.
struct BandLevel {
    int64 first;  // cell of (row_first, 0), in cells of the scratch
    int row_first, row_last, columns, rows;
};

// Lays the levels of a band out in scratch, with `halo` rows on either side; returns the number of cells.
static int64 layout_band(const BandArguments& args, int64 band, int halo, BandLevel* out) {
    int64 cells = 0;
    for (int level = 0; level < args.pyramid.levels; ++level) {
        BandLevel& b = out[level];
        b.columns = level_extent(args.pyramid.width, level), b.rows = level_extent(args.pyramid.height, level);
        b.row_first = (int)((band * args.hits.band_rows) >> level) - halo;
        b.row_last = std::min(b.rows + halo, (int)(((band + 1) * args.hits.band_rows) >> level) + halo);
        b.first = cells;
        cells += (int64)(b.row_last - b.row_first) * b.columns;
    }
    return cells;
}

DEVICE int64 cell_at(const BandLevel& b, int x, int y) { return b.first + (int64)(y - b.row_first) * b.columns + x; }
DEVICE int64 cell_of(const BandLevel& b, const Hit& hit, int level) {
    return cell_at(b, hit.x >> level, hit.y >> level);
}

// The hits of one class of a band in one chunk.
struct HitRange {
    const Hit *begin, *end;
};
// Calls body(range) for the hits of one class of a band, chunk by chunk.
template <class Body>
DEVICE void for_each_range(const BandArguments& args, int64 view, int64 band, int64 kind, const Body& body) {
    const int64 bin = view * (count_bins(args) + 1) + band * 2 * args.pyramid.levels + kind, chunks = args.hits.chunks;
    const int64 *begin = args.hits.offsets + bin * chunks, *end = begin + chunks;
    const Hit* hits = (const Hit*)args.hits.hits;
    for (int64 chunk = 0; chunk < chunks; ++chunk) {
        if (chunk && !end[chunk]) break;  // only chunks that were never filled end at 0
        body(HitRange{hits + begin[chunk], hits + end[chunk]});
    }
}
// Calls body(hit) for the hits of one class of a band, in their order; returns whether there were any.
template <class Body>
DEVICE bool for_each_hit(const BandArguments& args, int64 view, int64 band, int64 kind, const Body& body) {
    bool any = false;
    for_each_range(args, view, band, kind, [&](const HitRange& range) {
        any |= range.begin < range.end;
        for (const Hit* hit = range.begin; hit < range.end; ++hit) body(*hit);
    });
    return any;
}
// The same, where counts(hit, level) says whether a hit is in front at a level, and body(hit) does nothing with those
// that are not at any, and says so. In a cloud of many layers two thirds are not: from where most are hidden, those in
// front are looked for in advance, without a branch, which would be mispredicted. `rows` [N, row], which the body reads
// or adds to, is asked for in time.
template <class Counts, class Body>
DEVICE void for_each_shown(const BandArguments& args, int64 view, int64 band, int64 kind, const real* rows,
                           const Counts& counts, const Body& body) {
    static const int TILE = 256, AHEAD = 12;
    const int levels = (int)(args.pyramid.levels - kind);
    const auto shows = [&](const Hit& hit) {
        int any = 0;
        for (int level = 0; level < levels; ++level) any |= counts(hit, level) ? 1 : 0;
        return any;
    };
    const int64 row = args.pyramid.row;
    bool most_shown = true;
    for_each_range(args, view, band, kind, [&](const HitRange& range) {
        for (const Hit* first = range.begin; first < range.end; first += TILE) {
            const int size = (int)std::min<int64>(TILE, range.end - first);
            int kept[TILE + AHEAD], count = 0, shown = 0;
            if (most_shown)
                for (; count < size; ++count) kept[count] = count;
            else
                for (int i = 0; i < size; ++i) kept[count] = i, count += shows(first[i]);
            for (int i = count; i < count + AHEAD; ++i) kept[i] = 0;
            for (int i = 0; i < count; ++i) {
                const real* ahead = rows + (int64)first[kept[i + AHEAD]].point * row;
                __builtin_prefetch(ahead), __builtin_prefetch(ahead + row - 1);
                shown += body(first[kept[i]]) ? 1 : 0;
            }
            most_shown = 2 * shown > size;
        }
    });
}
